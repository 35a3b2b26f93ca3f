// Users, service accounts and their API keys; only an admin sees and changes them.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { post, queryText, remove } from "./http";
import type { components } from "./schema";

export type User = components["schemas"]["User"];
export type ApiKey = components["schemas"]["ApiKey"];

const NOUN = "users";

export function useUsers(enabled: boolean) {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN],
    queryFn: () => collect<User>(`${account}/users`, "users"),
    enabled,
  });
}

export function useApiKeys(user: string) {
  return useQuery({
    queryKey: [NOUN, user, "apiKeys"],
    queryFn: () => collect<ApiKey>(`/v1/${user}/apiKeys`, "apiKeys"),
  });
}

export function useCreateUser() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({
      id,
      ...body
    }: {
      id: string;
      role: string;
      displayName?: string;
      serviceAccount: boolean;
    }) => post<User>(`${account}/users${queryText({ userId: id })}`, body),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useDeleteUser() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => remove(`/v1/${name}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}

/** Make a key; `key` is in this answer only. */
export function useCreateApiKey(user: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (key: { displayName: string; expireTime?: string }) =>
      post<ApiKey>(`/v1/${user}/apiKeys`, { apiKey: key }),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useEndApiKey(user: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (keyId: string) => post(`/v1/${user}/apiKeys:delete`, { keyId }),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

// Secrets: names only; a value goes in and never comes out.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { patch, post, remove } from "./http";
import type { components } from "./schema";

export type Secret = components["schemas"]["Secret"];

const NOUN = "secrets";

export function useSecrets(enabled: boolean) {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN],
    queryFn: () => collect<Secret>(`${account}/secrets`, "secrets"),
    enabled,
  });
}

/** Add a secret, or replace the value of the one called `name`. */
export function useStoreSecret() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (secret: { name?: string; id: string; keyName: string; value: string }) =>
      secret.name
        ? patch(`/v1/${secret.name}`, { value: secret.value })
        : post(`${account}/secrets`, { name: secret.id, keyName: secret.keyName, value: secret.value }),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useDeleteSecret() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => remove(`/v1/${name}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}

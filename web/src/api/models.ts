// Models: what jobs made, the base models of the catalogue, and what a call can name.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { get, remove } from "./http";
import type { components } from "./schema";

export type Model = components["schemas"]["Model"];
export type OptionRange = components["schemas"]["OptionRange"];

const NOUN = "models";
const CATALOGUES = ["tunesmith", "fireworks"];

/** The account's own models, newest first. */
export function useModels() {
  const account = useAccountPath();
  return useQuery({ queryKey: [NOUN], queryFn: () => collect<Model>(`${account}/models`, "models") });
}

/** Base models that are on the platform's machine. */
export function useBaseModels() {
  return useQuery({
    queryKey: [NOUN, "catalogue"],
    queryFn: async () => {
      const lists = await Promise.all(
        CATALOGUES.map((owner) => collect<Model>(`/v1/accounts/${owner}/models`, "models")),
      );
      return lists.flat();
    },
    staleTime: 300_000,
  });
}

/** One model by its full name (`accounts/{a}/models/{id}`), base models too. */
export function useModel(name: string) {
  return useQuery({
    queryKey: [NOUN, name],
    queryFn: () => get<Model>(`/v1/${name}`),
    enabled: name !== "",
  });
}

/** Names that a model call can give. */
export function useCallable() {
  return useQuery({
    queryKey: [NOUN, "callable"],
    queryFn: async () =>
      (await get<{ data: { id: string }[] }>("/inference/v1/models")).data.map((model) => model.id),
  });
}

/** URLs of a model's files, good for an hour, by file name. */
export function useModelFiles(name: string, enabled: boolean) {
  return useQuery({
    queryKey: [NOUN, name, "files"],
    queryFn: async () =>
      (await get<{ filenameToSignedUrls: Record<string, string> }>(`/v1/${name}:getDownloadEndpoint`))
        .filenameToSignedUrls,
    enabled,
    staleTime: 1_800_000,
  });
}

export function useDeleteModel() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => remove(`/v1/${name}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}

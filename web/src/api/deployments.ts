// Deployments: names under which a model is kept ready.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { get, patch, post, queryText, remove } from "./http";
import type { components } from "./schema";

export type Deployment = components["schemas"]["Deployment"];

const NOUN = "deployments";
const BUSY = new Set(["CREATING", "UPDATING", "DELETING"]);

export function useDeployments() {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN],
    queryFn: () => collect<Deployment>(`${account}/deployments`, "deployments"),
  });
}

export function useDeployment(id: string) {
  const path = `${useAccountPath()}/deployments/${id}`;
  return useQuery({
    queryKey: [NOUN, id],
    queryFn: () => get<Deployment>(path),
    // An engine that comes up is no change of a row: look again while it does.
    refetchInterval: ({ state }) => (BUSY.has(state.data?.state ?? "") ? 2000 : false),
  });
}

interface NewDeployment {
  id: string;
  baseModel: string;
  displayName?: string;
}

export function useCreateDeployment() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, ...body }: NewDeployment) =>
      post<Deployment>(`${account}/deployments${queryText({ deploymentId: id })}`, body),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useScaleDeployment(id: string) {
  const path = `${useAccountPath()}/deployments/${id}:scale`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: (replicaCount: 0 | 1) => patch(path, { replicaCount }),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useDeleteDeployment() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => remove(`${account}/deployments/${id}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}

// Who is signed in. Looking from the platform's own machine needs no key: such a session is taken without asking.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { ApiError, get, post, remove } from "~/api/http";
import type { components } from "~/api/schema";
import { watch } from "~/api/watch";

export interface Session {
  account: string;
  role: "admin" | "user" | "contributor" | "inference-user" | "viewer";
  user: string | null;
  expires: string;
  version: string;
}

type Nobody = components["schemas"]["NoSession"];

const KEY = ["session"];

/** The session; `data` is null when somebody must sign in. */
export function useSession() {
  const query = useQuery({ queryKey: KEY, queryFn: whoAmI, staleTime: 60_000 });
  const account = query.data?.account;
  useEffect(() => {
    if (account) watch.setBase(`/v1/accounts/${account}/watch`);
  }, [account]);
  return query;
}

async function whoAmI(): Promise<Session | null> {
  // That nobody is signed in is an answer, not an error, which the browser would write to its console.
  const found = await get<Session | Nobody>("/dashboard/session", { optional: true });
  if (found.account !== null) return found;
  if (!found.mayLook) return null;
  try {
    return await post<Session>("/dashboard/session", {});
  } catch (error) {
    if (error instanceof ApiError && error.status >= 400 && error.status < 500) return null;
    throw error;
  }
}

/** Sign in with an API key, or with the token of a one-time link; signing out. */
export function useSigning() {
  const client = useQueryClient();
  // What the one before has read is forgotten. Not `clear()`: whoever shows the session would go on showing the old one.
  const renew = (session: Session | null) => {
    client.setQueryData(KEY, session);
    client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== KEY[0] });
  };
  return {
    signIn: async (with_: { apiKey: string } | { link: string }) =>
      renew(await post<Session>("/dashboard/session", with_)),
    signOut: async () => {
      await remove("/dashboard/session");
      renew(null);
    },
  };
}

/** Whether this session may change things; a viewer may not. */
export function useMayChange(): boolean {
  const { data } = useSession();
  return !!data && data.role !== "viewer" && data.role !== "inference-user";
}

/** `/v1/accounts/{account}` of the session; only below the signed-in shell. */
export function useAccountPath(): string {
  const { data } = useSession();
  return `/v1/accounts/${data?.account ?? "local"}`;
}

// How models are called in lists.
import { shortId } from "~/api/names";

/** "Tiny Math v1 (1.5 M parameters)", or the id where there is no other name. */
export function modelLabel(model: { name: string; displayName?: string }): string {
  return model.displayName || shortId(model.name);
}

/** Where a model's page is. Models of other accounts (base models) keep their account in the query. */
export function modelPath(name: string): string {
  const [, account = "", , id = ""] = name.split("/");
  const own = !["tunesmith", "fireworks"].includes(account);
  return `/dashboard/models/${id}${own ? "" : `?account=${account}`}`;
}

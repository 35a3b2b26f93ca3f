// Resource names: `accounts/{account}/{collection}/{id}`.

/** The last part of a resource name. */
export function shortId(name: string | null | undefined): string {
  return (name ?? "").split("/").pop() ?? "";
}

/** A short id that the platform takes, made from what a person or a file calls the thing. */
export function idFrom(text: string): string {
  return text
    .toLowerCase()
    .replace(/\.(jsonl?|ndjson)$/, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63)
    .replace(/-+$/, "");
}

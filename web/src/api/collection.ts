// A whole collection of the account, page after page: what the dashboard lists is thousands of things at most.
import { get, type Query } from "./http";

const PAGE = 200;
/** Things of one collection that a page reads at most; the rest is found with the command line. */
export const MOST = 2000;

/** All of `{path}`, whose answers carry them in `field`. */
export async function collect<T>(path: string, field: string, query: Query = {}): Promise<T[]> {
  const found: T[] = [];
  let pageToken = "";
  do {
    const page = await get<Record<string, unknown>>(path, { pageSize: PAGE, ...query, pageToken });
    found.push(...((page[field] as T[] | undefined) ?? []));
    pageToken = String(page.nextPageToken ?? "");
  } while (pageToken && found.length < MOST);
  return found;
}

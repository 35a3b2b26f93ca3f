// What changed on the platform is read again: each noun's queries begin with its name.
import type { Query } from "@tanstack/react-query";
import { useReadAgain } from "~/api/readAgain";
import { useWatch } from "~/api/watch";

/** Milliseconds between two readings of a noun: a job that runs changes several times a second. */
const PAUSE = 1000;

/** Query keys begin with the noun as the API's paths spell it: `["datasets", ...]`, `["reinforcementFineTuningJobs", ...]`. */
export function useChanges(): void {
  const readAgain = useReadAgain(withoutStream);
  useWatch("changes", ({ data }) => readAgain(data.noun === null ? [] : [data.noun], PAUSE));
}

/** Queries with `meta.streamed` are kept fresh by a stream of their own. */
function withoutStream({ meta }: Query): boolean {
  return meta?.streamed !== true;
}

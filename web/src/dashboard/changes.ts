// What changed on the platform is read again: each noun's queries begin with its name.
import { useQueryClient } from "@tanstack/react-query";
import { useWatch } from "~/api/watch";

/** Query keys begin with the noun as the API's paths spell it: `["datasets", ...]`, `["reinforcementFineTuningJobs", ...]`. */
export function useChanges(): void {
  const client = useQueryClient();
  useWatch("changes", ({ data }) => {
    client.invalidateQueries({ queryKey: [data.noun] });
  });
}

// The build log of a version, live while it is built.
import { useMemo, useState } from "react";
import { useEvaluatorVersion } from "~/api/evaluators";
import { useWatch } from "~/api/watch";
import { ResourceState } from "~/design/Badge";
import { type LogLine, LogView } from "~/design/LogView";
import { Failure, Skeleton } from "~/design/Panel";
import { buildLines } from "./buildLines";

export function EvaluatorBuild({ id, version }: { id: string; version: number }) {
  const query = useEvaluatorVersion(id, version);
  const [streamed, setStreamed] = useState("");
  const [state, setState] = useState<string | null>(null);
  const building = (state ?? query.data?.state) === "BUILDING";
  // Only what is being built is streamed: a finished log comes whole with the version.
  useWatch(query.data?.state === "BUILDING" ? `builds/${query.data.name}` : null, ({ data }) => {
    setState(data.state);
    setStreamed((before) => (data.offset === 0 ? data.text : before + data.text));
    if (data.state !== "BUILDING") query.refetch();
  });
  const text = building && streamed ? streamed : (query.data?.buildLog ?? streamed);
  const lines = useMemo<LogLine[]>(() => buildLines(text), [text]);
  if (query.error && !query.data)
    return (
      <Failure title="The build log could not be loaded" error={query.error} retry={() => query.refetch()} />
    );
  if (!query.data) return <Skeleton lines={8} />;
  return (
    <LogView
      label={`Build log of version ${version}`}
      lines={lines}
      live={building}
      actions={<ResourceState state={state ?? query.data.state} />}
      empty={building ? "The build has not written anything yet." : "This build wrote nothing."}
      height="60dvh"
    />
  );
}

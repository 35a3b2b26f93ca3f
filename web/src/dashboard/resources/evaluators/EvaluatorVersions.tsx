// Versions of an evaluator, and what changed between any two of them.
import { Link } from "@tanstack/react-router";
import { type EvaluatorVersion, useEvaluatorDifference } from "~/api/evaluators";
import { Badge, ResourceState } from "~/design/Badge";
import { type Column, DataTable } from "~/design/DataTable";
import { Diff } from "~/design/Diff";
import { Select } from "~/design/Field";
import { Empty, Loaded } from "~/design/Panel";
import { Time } from "~/design/Time";

export function EvaluatorVersions(props: {
  id: string;
  versions: {
    data: EvaluatorVersion[] | undefined;
    error: unknown;
    isPending: boolean;
    refetch: () => unknown;
  };
  base?: number;
  with?: number;
  onCompare: (base: number, other: number) => void;
}) {
  return (
    <Loaded query={props.versions} what="The versions">
      {(versions) => (
        <div className="space-y-6">
          <DataTable
            label="Versions"
            columns={columns(props.id)}
            rows={versions}
            rowKey={(version) => String(version.version)}
            maxHeight="45dvh"
          />
          {versions.length > 1 ? (
            <Comparison {...props} versions={versions} />
          ) : (
            <p className="text-ink-soft">
              The next upload or edit becomes version 2, and can be compared with this one.
            </p>
          )}
        </div>
      )}
    </Loaded>
  );
}

function columns(id: string): Column<EvaluatorVersion>[] {
  return [
    {
      id: "version",
      header: "Version",
      width: 90,
      value: (version) => version.version,
      cell: (version) => (
        <span className="flex items-center gap-2">
          <Link
            to={`/dashboard/evaluators/${id}/versions/${version.version}`}
            className="tabular font-medium text-accent-text hover:underline"
          >
            {version.version}
          </Link>
          {version.current && <Badge tone="accent">current</Badge>}
        </span>
      ),
    },
    {
      id: "origin",
      header: "By",
      width: 80,
      value: (version) => version.origin,
      cell: (version) => version.origin,
    },
    {
      id: "message",
      header: "What changed",
      width: 280,
      cell: (version) => (
        <span className="break-words">
          {version.message || <span className="text-ink-faint">not said</span>}
        </span>
      ),
    },
    {
      id: "state",
      header: "State",
      width: 260,
      value: (version) => version.state,
      cell: (version) => (
        <div>
          <ResourceState state={version.state} />
          {version.status.code !== "OK" && (
            <div className="line-clamp-2 max-w-md text-xs break-words text-ink-soft">
              {version.status.message}
            </div>
          )}
        </div>
      ),
    },
    {
      id: "time",
      header: "When",
      width: 140,
      value: (version) => version.createTime,
      cell: (version) => <Time at={version.createTime} ago />,
    },
  ];
}

function Comparison(props: {
  id: string;
  versions: EvaluatorVersion[];
  base?: number;
  with?: number;
  onCompare: (base: number, other: number) => void;
}) {
  const numbers = props.versions.map((version) => version.version);
  const base = props.base ?? numbers[1] ?? 1;
  const other = props.with ?? numbers[0] ?? 1;
  const difference = useEvaluatorDifference(props.id, other, base);
  const pick = (label: string, value: number, onChange: (value: number) => void) => (
    <Select aria-label={label} value={value} onChange={(event) => onChange(Number(event.target.value))}>
      {numbers.map((number) => (
        <option key={number} value={number}>
          version {number}
        </option>
      ))}
    </Select>
  );
  return (
    <section aria-label="What changed" className="space-y-3">
      <div className="flex flex-wrap items-center gap-2">
        <h2 className="mr-2 font-semibold">What changed</h2>
        from {pick("From version", base, (value) => props.onCompare(value, other))} to{" "}
        {pick("To version", other, (value) => props.onCompare(base, value))}
      </div>
      {base === other ? (
        <p className="text-ink-soft">Choose two different versions.</p>
      ) : (
        <Loaded query={difference} what="The difference">
          {(files) =>
            files.length === 0 ? (
              <Empty title="Both versions have the same files" />
            ) : (
              <div className="space-y-3">
                {files.map((file) => (
                  <article key={file.path} className="overflow-hidden rounded-lg border bg-surface">
                    <header className="flex items-center gap-2 border-b bg-raised px-3 py-1.5">
                      <code className="font-mono text-xs break-all">{file.path}</code>
                      <Badge
                        tone={file.status === "added" ? "good" : file.status === "removed" ? "bad" : "plain"}
                      >
                        {file.status}
                      </Badge>
                    </header>
                    <Diff diff={file.diff} name={file.path} />
                  </article>
                ))}
              </div>
            )
          }
        </Loaded>
      )}
    </section>
  );
}

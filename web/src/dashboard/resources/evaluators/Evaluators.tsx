// All evaluators with the state of their newest version.
import { Link, useNavigate } from "@tanstack/react-router";
import { Scale } from "lucide-react";
import { type Evaluator, useEvaluators } from "~/api/evaluators";
import { shortId } from "~/api/names";
import { ResourceState } from "~/design/Badge";
import { Code } from "~/design/Copy";
import { type Column, DataTable } from "~/design/DataTable";
import { count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";

const COLUMNS: Column<Evaluator>[] = [
  {
    id: "name",
    header: "Evaluator",
    width: 280,
    value: (evaluator) => shortId(evaluator.name),
    cell: (evaluator) => (
      <div className="min-w-0">
        <Link
          to={`/dashboard/evaluators/${shortId(evaluator.name)}`}
          className="font-medium break-all text-accent-text hover:underline"
        >
          {shortId(evaluator.name)}
        </Link>
        {evaluator.description && (
          <div className="max-w-md truncate text-xs text-ink-soft">{evaluator.description}</div>
        )}
      </div>
    ),
  },
  {
    id: "state",
    header: "State",
    width: 130,
    value: (evaluator) => evaluator.state,
    cell: (evaluator) => <ResourceState state={evaluator.state} />,
  },
  {
    id: "version",
    header: "Version",
    width: 80,
    align: "right",
    value: (evaluator) => evaluator.version,
    cell: (evaluator) => evaluator.version,
  },
  {
    id: "entry",
    header: "Entry point",
    width: 240,
    value: (evaluator) => evaluator.entryPoint ?? "",
    cell: (evaluator) => <code className="font-mono text-xs break-all">{evaluator.entryPoint}</code>,
  },
  {
    id: "updated",
    header: "Updated",
    width: 130,
    value: (evaluator) => evaluator.updateTime,
    cell: (evaluator) => <Time at={evaluator.updateTime} ago />,
  },
];

export function Evaluators() {
  const evaluators = useEvaluators();
  const navigate = useNavigate();
  return (
    <>
      <PageHeader title="Evaluators">
        Projects whose <code className="font-mono">@evaluation_test</code> scores rollouts. Every upload and
        every edit is a version, kept and comparable.
      </PageHeader>
      {evaluators.error && !evaluators.data ? (
        <Failure
          title="The evaluators could not be loaded"
          error={evaluators.error}
          retry={() => evaluators.refetch()}
        />
      ) : (
        <DataTable
          label="Evaluators"
          name="evaluators"
          columns={COLUMNS}
          rows={evaluators.data}
          rowKey={(evaluator) => evaluator.name}
          onRowClick={(evaluator) => navigate({ to: `/dashboard/evaluators/${shortId(evaluator.name)}` })}
          toolbar={
            evaluators.data && (
              <span className="text-xs text-ink-soft">{count(evaluators.data.length)} evaluators</span>
            )
          }
          empty={
            <Empty
              picture={<Scale size={32} />}
              title="No evaluators yet"
              action={<Code text="ep upload --wait" className="text-left" />}
            >
              In the folder of a test with <code className="font-mono">@evaluation_test</code>, this uploads
              it and waits until it is built. <code className="font-mono">ep create rft</code> does so by
              itself.
            </Empty>
          }
        />
      )}
    </>
  );
}

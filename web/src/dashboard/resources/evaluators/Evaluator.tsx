// One evaluator, or one version of it: source with an editor, build log, what it scored, all versions and what changed between them.
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { SlidersHorizontal, Trash2 } from "lucide-react";
import { useState } from "react";
import {
  type Evaluator as EvaluatorShown,
  useDeleteEvaluator,
  useEvaluator,
  useEvaluatorVersions,
} from "~/api/evaluators";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { Badge, ResourceState } from "~/design/Badge";
import { CopyButton } from "~/design/Copy";
import { PageHeader } from "~/design/PageHeader";
import { Failure, Loaded } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { Time } from "~/design/Time";
import { DeleteConfirm } from "../DeleteConfirm";
import { EvaluatorBuild } from "./EvaluatorBuild";
import { EvaluatorResults } from "./EvaluatorResults";
import { EvaluatorSource } from "./EvaluatorSource";
import { EvaluatorVersions } from "./EvaluatorVersions";

interface Search {
  tab?: string;
  base?: number;
  with?: number;
}

export function Evaluator() {
  const { evaluatorId = "", version: wanted } = useParams({ strict: false }) as {
    evaluatorId?: string;
    version?: string;
  };
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const evaluator = useEvaluator(evaluatorId);
  const versions = useEvaluatorVersions(evaluatorId);
  const version = wanted ? Number(wanted) : evaluator.data?.version;
  const failed = evaluator.data?.state === "BUILD_FAILED" && !wanted;
  const tab = search.tab ?? (failed ? "build" : "source");
  return (
    <Loaded query={evaluator} what="The evaluator">
      {(data) => (
        <>
          <Head
            evaluator={data}
            id={evaluatorId}
            version={version ?? data.version}
            old={wanted !== undefined}
          />
          {failed && (
            <div className="mb-4">
              <Failure
                title={`Version ${data.version} could not be built`}
                error={new Error(data.status.message)}
              />
            </div>
          )}
          <Tabs
            label="Evaluator"
            tabs={[
              { id: "source", label: "Source" },
              { id: "build", label: "Build log" },
              { id: "results", label: "Results" },
              { id: "versions", label: "Versions", count: versions.data?.length },
            ]}
            active={tab}
            onChange={(next) => navigate({ to: ".", search: { tab: next } as never, replace: true })}
          />
          <div className="pt-4">
            {tab === "build" ? (
              <EvaluatorBuild key={version} id={evaluatorId} version={version ?? data.version} />
            ) : tab === "results" ? (
              <EvaluatorResults id={evaluatorId} />
            ) : tab === "versions" ? (
              <EvaluatorVersions
                id={evaluatorId}
                versions={versions}
                base={search.base}
                with={search.with}
                onCompare={(base, other) =>
                  navigate({
                    to: ".",
                    search: { tab: "versions", base, with: other } as never,
                    replace: true,
                  })
                }
              />
            ) : (
              <EvaluatorSource
                id={evaluatorId}
                version={version ?? data.version}
                newest={data.version}
                entryPoint={data.entryPoint ?? ""}
              />
            )}
          </div>
        </>
      )}
    </Loaded>
  );
}

function Head(props: { evaluator: EvaluatorShown; id: string; version: number; old: boolean }) {
  const { evaluator, id, version, old } = props;
  const navigate = useNavigate();
  const remove = useDeleteEvaluator();
  const [asked, setAsked] = useState(false);
  return (
    <>
      <PageHeader
        crumbs={[
          <Link key="all" to="/dashboard/evaluators">
            Evaluators
          </Link>,
          ...(old
            ? [
                <Link key="one" to={`/dashboard/evaluators/${id}`}>
                  {id}
                </Link>,
              ]
            : []),
        ]}
        title={old ? `${id}, version ${version}` : id}
        marks={
          <>
            <CopyButton text={evaluator.name} label="Copy resource name" />
            {!old && <ResourceState state={evaluator.state} />}
            {!old && <Badge>version {version}</Badge>}
            {old && version < evaluator.version && <Badge tone="fair">newest is {evaluator.version}</Badge>}
          </>
        }
        actions={
          <>
            <ChangeButton
              icon={<SlidersHorizontal size={14} />}
              disabled={evaluator.state !== "ACTIVE"}
              onClick={() =>
                navigate({
                  to: "/dashboard/fine-tuning/create",
                  search: { kind: "rft", evaluator: id } as never,
                })
              }
            >
              Train against it
            </ChangeButton>
            {!old && (
              <ChangeButton kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsked(true)}>
                Delete
              </ChangeButton>
            )}
          </>
        }
      >
        {evaluator.description}{" "}
        <span className="text-xs text-ink-faint">
          Updated <Time at={evaluator.updateTime} ago />
        </span>
      </PageHeader>
      <DeleteConfirm
        open={asked}
        onClose={() => setAsked(false)}
        name={id}
        remove={remove}
        list="/dashboard/evaluators"
      >
        All its versions go, except what running jobs hold until they end.
      </DeleteConfirm>
    </>
  );
}

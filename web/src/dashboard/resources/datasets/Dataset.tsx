// One dataset: its rows as conversations, its figures, and how a base model would be trained on it.
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { Download, SlidersHorizontal, Trash2 } from "lucide-react";
import { useState } from "react";
import {
  type Dataset as DatasetShown,
  useDataset,
  useDatasetDownload,
  useDeleteDataset,
} from "~/api/datasets";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { Badge, ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { bytes, count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Failure, Loaded, Tile } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { Time } from "~/design/Time";
import { toastError } from "~/design/Toast";
import { DeleteConfirm } from "../DeleteConfirm";
import { DatasetRendering } from "./DatasetRendering";
import { DatasetRows } from "./DatasetRows";
import { DatasetStatisticsView } from "./DatasetStatistics";
import { ROW_KINDS } from "./Datasets";

const TABS = [
  { id: "rows", label: "Rows" },
  { id: "statistics", label: "Statistics" },
  { id: "rendering", label: "Rendering and loss mask" },
];

export function Dataset() {
  const { datasetId = "" } = useParams({ strict: false }) as { datasetId?: string };
  const { tab = "rows" } = useSearch({ strict: false }) as { tab?: string };
  const navigate = useNavigate();
  const dataset = useDataset(datasetId);
  return (
    <Loaded query={dataset} what="The dataset">
      {(data) => (
        <>
          <Head dataset={data} id={datasetId} />
          <div className="mb-4 grid grid-cols-2 gap-3 sm:grid-cols-4">
            <Tile label="Rows" value={data.exampleCount ? count(Number(data.exampleCount)) : "none"} />
            <Tile label="Size" value={data.bytes ? bytes(Number(data.bytes)) : "none"} />
            <Tile
              label="Rows are"
              value={data.rowKind ? (ROW_KINDS[data.rowKind] ?? data.rowKind) : "unknown"}
            />
            <Tile label="Created" value={<Time at={data.createTime} ago />} />
          </div>
          <Validation dataset={data} />
          {data.state === "READY" && (
            <>
              <Tabs
                label="Dataset"
                tabs={TABS}
                active={tab}
                onChange={(next) =>
                  navigate({ to: ".", search: next === "rows" ? {} : { tab: next }, replace: true })
                }
              />
              <div className="pt-4">
                {tab === "statistics" ? (
                  <DatasetStatisticsView id={datasetId} />
                ) : tab === "rendering" ? (
                  <DatasetRendering id={datasetId} />
                ) : (
                  <DatasetRows id={datasetId} />
                )}
              </div>
            </>
          )}
        </>
      )}
    </Loaded>
  );
}

function Head({ dataset, id }: { dataset: DatasetShown; id: string }) {
  const navigate = useNavigate();
  const download = useDatasetDownload();
  const remove = useDeleteDataset();
  const [asked, setAsked] = useState(false);
  const kind = dataset.rowKind === "PREFERENCES" ? undefined : "sft";
  return (
    <>
      <PageHeader
        crumbs={[
          <Link key="all" to="/dashboard/datasets">
            Datasets
          </Link>,
        ]}
        title={id}
        marks={
          <>
            <CopyButton text={dataset.name} label="Copy resource name" />
            <ResourceState state={dataset.state} />
            {dataset.evalProtocol && <Badge>EvaluationRows</Badge>}
          </>
        }
        actions={
          <>
            {kind && dataset.state === "READY" && (
              <ChangeButton
                icon={<SlidersHorizontal size={14} />}
                onClick={() =>
                  navigate({ to: "/dashboard/fine-tuning/create", search: { kind, dataset: id } as never })
                }
              >
                Fine-tune on it
              </ChangeButton>
            )}
            <Button
              icon={<Download size={14} />}
              disabled={dataset.state !== "READY"}
              onClick={() =>
                download(id)
                  .then((url) => window.location.assign(url))
                  .catch(toastError)
              }
            >
              Download
            </Button>
            <ChangeButton kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsked(true)}>
              Delete
            </ChangeButton>
          </>
        }
      >
        {dataset.displayName}
      </PageHeader>
      <DeleteConfirm
        open={asked}
        onClose={() => setAsked(false)}
        name={id}
        remove={remove}
        list="/dashboard/datasets"
      >
        Its {dataset.exampleCount ?? ""} rows are removed for good. While a job needs them this is refused.
      </DeleteConfirm>
    </>
  );
}

/** What checking the rows came to. */
function Validation({ dataset }: { dataset: DatasetShown }) {
  if (dataset.state === "READY")
    return (
      <p className="mb-4 text-ink-soft">
        <span className="font-medium text-good">Valid.</span> Every line was checked when it was uploaded:
        JSON, roles, contents and kinds of rows.
      </p>
    );
  if (dataset.status.code !== "OK")
    return <Failure title="The upload was refused" error={new Error(dataset.status.message)} />;
  return <p className="mb-4 text-ink-soft">Announced; its rows have not come yet.</p>;
}

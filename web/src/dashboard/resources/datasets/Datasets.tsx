// All datasets, and a way to add one: drop a JSONL file anywhere on the page.
import { Link, useNavigate } from "@tanstack/react-router";
import { Database, Upload } from "lucide-react";
import { type DragEvent, useState } from "react";
import { type Dataset, useDatasets } from "~/api/datasets";
import { shortId } from "~/api/names";
import { ChangeButton, useReasonNotTo } from "~/dashboard/ChangeButton";
import { Badge, ResourceState } from "~/design/Badge";
import { type Column, DataTable } from "~/design/DataTable";
import { bytes, count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";
import { UploadDialog } from "./UploadDialog";

export const ROW_KINDS: Record<string, string> = { MESSAGES: "conversations", PREFERENCES: "preferences" };

const COLUMNS: Column<Dataset>[] = [
  {
    id: "name",
    header: "Dataset",
    width: 280,
    value: (dataset) => shortId(dataset.name),
    cell: (dataset) => (
      <div className="min-w-0">
        <Link
          to={`/dashboard/datasets/${shortId(dataset.name)}`}
          className="font-medium break-all text-accent-text hover:underline"
        >
          {shortId(dataset.name)}
        </Link>
        {dataset.displayName && <div className="text-xs text-ink-soft">{dataset.displayName}</div>}
      </div>
    ),
  },
  {
    id: "state",
    header: "State",
    width: 110,
    value: (dataset) => dataset.state,
    cell: (dataset) => <ResourceState state={dataset.state} />,
  },
  {
    id: "kind",
    header: "Rows are",
    width: 130,
    value: (dataset) => dataset.rowKind,
    cell: (dataset) =>
      dataset.rowKind ? <Badge>{ROW_KINDS[dataset.rowKind] ?? dataset.rowKind}</Badge> : null,
  },
  {
    id: "rows",
    header: "Rows",
    align: "right",
    width: 90,
    value: (dataset) => Number(dataset.exampleCount ?? 0),
    cell: (dataset) => (dataset.exampleCount ? count(Number(dataset.exampleCount)) : "none"),
  },
  {
    id: "bytes",
    header: "Size",
    align: "right",
    width: 100,
    value: (dataset) => Number(dataset.bytes ?? 0),
    cell: (dataset) => (dataset.bytes ? bytes(Number(dataset.bytes)) : "none"),
  },
  {
    id: "created",
    header: "Created",
    width: 140,
    value: (dataset) => dataset.createTime,
    cell: (dataset) => <Time at={dataset.createTime} ago />,
  },
];

export function Datasets() {
  const datasets = useDatasets();
  const navigate = useNavigate();
  const reason = useReasonNotTo();
  const [open, setOpen] = useState(false);
  const [file, setFile] = useState<File | null>(null);
  const [over, setOver] = useState(false);
  const take = (given: File | null) => {
    setFile(given);
    setOpen(true);
  };
  const drop = reason
    ? {}
    : {
        onDragOver: (event: DragEvent) => {
          event.preventDefault();
          setOver(true);
        },
        onDragLeave: () => setOver(false),
        onDrop: (event: DragEvent) => {
          event.preventDefault();
          setOver(false);
          if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
        },
      };
  return (
    <section
      aria-label="Datasets"
      {...drop}
      className={over ? "rounded-lg outline-2 outline-accent" : undefined}
    >
      <PageHeader
        title="Datasets"
        actions={
          <ChangeButton kind="primary" icon={<Upload size={15} />} onClick={() => take(null)}>
            Upload a dataset
          </ChangeButton>
        }
      >
        Rows to train on and to evaluate with: one JSON object a line. Drop a file here to add it.
      </PageHeader>
      {datasets.error && !datasets.data ? (
        <Failure
          title="The datasets could not be loaded"
          error={datasets.error}
          retry={() => datasets.refetch()}
        />
      ) : (
        <DataTable
          label="Datasets"
          name="datasets"
          columns={COLUMNS}
          rows={datasets.data}
          rowKey={(dataset) => dataset.name}
          onRowClick={(dataset) => navigate({ to: `/dashboard/datasets/${shortId(dataset.name)}` })}
          toolbar={
            datasets.data && (
              <span className="text-xs text-ink-soft">{count(datasets.data.length)} datasets</span>
            )
          }
          empty={
            <Empty picture={<Database size={32} />} title="No datasets yet">
              Upload a JSONL file, or let <code className="font-mono">ep create rft</code> do it: it takes the
              rows of your test.
            </Empty>
          }
        />
      )}
      <UploadDialog
        key={file ? `${file.name}-${file.lastModified}` : "none"}
        open={open}
        file={file}
        onClose={() => setOpen(false)}
        onDone={(dataset) => navigate({ to: `/dashboard/datasets/${shortId(dataset.name)}` })}
      />
    </section>
  );
}

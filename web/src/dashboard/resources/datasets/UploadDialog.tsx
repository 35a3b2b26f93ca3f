// Adding a dataset: a file by drop or choice, its id, how far the upload is, and what the server found wrong with which line.
import { FileUp } from "lucide-react";
import { useId, useState } from "react";
import { type Dataset, useUploadDataset } from "~/api/datasets";
import { idFrom } from "~/api/names";
import { Button } from "~/design/Button";
import { Dialog } from "~/design/Dialog";
import { Field, Input } from "~/design/Field";
import { bytes, percent } from "~/design/figures";
import { Progress } from "~/design/Progress";
import { toast } from "~/design/Toast";
import { lineOf } from "./lineOf";

export function UploadDialog(props: {
  open: boolean;
  file?: File | null;
  onClose: () => void;
  onDone: (dataset: Dataset) => void;
}) {
  const upload = useUploadDataset();
  const [file, setFile] = useState(props.file ?? null);
  const [id, setId] = useState(props.file ? idFrom(props.file.name) : "");
  const [adapted, setAdapted] = useState(false);
  const [share, setShare] = useState(0);
  const [quoted, setQuoted] = useState<{ line: number; text: string } | null>(null);
  const wrong = id && !/^[a-z0-9][a-z0-9._-]{0,62}$/.test(id);

  const choose = (chosen: File) => {
    setFile(chosen);
    setQuoted(null);
    upload.reset();
    if (!id) setId(idFrom(chosen.name));
  };
  const send = async () => {
    if (!file) return;
    setShare(0);
    setQuoted(null);
    try {
      const dataset = await upload.mutateAsync({ id, file, adapted, onProgress: setShare });
      toast(`${id}: ${dataset.exampleCount ?? "all"} rows are checked and stored.`);
      props.onClose();
      props.onDone(dataset);
    } catch (error) {
      setQuoted(await lineOf(file, error instanceof Error ? error.message : ""));
    }
  };

  return (
    <Dialog
      open={props.open}
      onClose={() => !upload.isPending && props.onClose()}
      title="Upload a dataset"
      footer={
        <>
          <Button onClick={props.onClose} disabled={upload.isPending}>
            Cancel
          </Button>
          <Button kind="primary" busy={upload.isPending} disabled={!file || !id || !!wrong} onClick={send}>
            Upload
          </Button>
        </>
      }
    >
      <div className="space-y-4">
        <FileDrop file={file} onFile={choose} />
        <Field
          label="Id"
          hint="How jobs and commands name it."
          error={wrong ? "Use a to z, 0 to 9, dots, hyphens and underscores; at most 63." : undefined}
        >
          {(ids) => <Input {...ids} value={id} onChange={(event) => setId(event.target.value)} />}
        </Field>
        <label className="flex items-start gap-2">
          <input
            type="checkbox"
            checked={adapted}
            onChange={(event) => setAdapted(event.target.checked)}
            className="mt-1 accent-accent"
          />
          <span>
            The rows are EvaluationRows already
            <span className="block text-xs text-ink-faint">
              Otherwise an evaluator's dataset_adapter is applied to them when it has one.
            </span>
          </span>
        </label>
        {upload.isPending && (
          <div className="space-y-1">
            <Progress share={share} label="Upload" />
            <p className="text-xs text-ink-soft" role="status">
              {share < 1 ? `${percent(share)} sent` : "All sent. Each line is being checked."}
            </p>
          </div>
        )}
        {upload.error && (
          <div role="alert" className="space-y-2 rounded-md border border-bad bg-bad-soft p-3">
            <p className="break-words text-bad">{upload.error.message}</p>
            {quoted && (
              <pre className="overflow-x-auto rounded bg-surface p-2 font-mono text-xs">
                <span className="text-ink-faint select-none">{quoted.line}</span> {quoted.text}
              </pre>
            )}
            <p className="text-xs text-ink-soft">Nothing was stored. Mend the file and upload it again.</p>
          </div>
        )}
      </div>
    </Dialog>
  );
}

function FileDrop({ file, onFile }: { file: File | null; onFile: (file: File) => void }) {
  const id = useId();
  const [over, setOver] = useState(false);
  return (
    <label
      htmlFor={id}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
      }}
      className={`flex cursor-pointer flex-col items-center gap-1 rounded-lg border-2 border-dashed px-4 py-7 text-center focus-within:outline-2 focus-within:outline-accent ${
        over ? "border-accent bg-accent-soft" : "border-line-strong hover:bg-sunken"
      }`}
    >
      <FileUp size={22} aria-hidden="true" className="text-ink-faint" />
      {file ? (
        <span className="font-medium break-all">
          {file.name} <span className="font-normal text-ink-soft">{bytes(file.size)}</span>
        </span>
      ) : (
        <span>
          Drop a JSONL file here, or <span className="text-accent-text underline">choose one</span>
        </span>
      )}
      <span className="text-xs text-ink-faint">
        One JSON object a line: <code className="font-mono">{'{"messages": [...]}'}</code>, or preference
        pairs
      </span>
      <input
        id={id}
        type="file"
        accept=".jsonl,.ndjson,.json,application/jsonl"
        aria-label="JSONL file"
        className="sr-only"
        onChange={(event) => {
          if (event.target.files?.[0]) onFile(event.target.files[0]);
          // So that the same file, mended, can be chosen once more.
          event.target.value = "";
        }}
      />
    </label>
  );
}

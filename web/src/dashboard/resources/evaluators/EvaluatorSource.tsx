// Files of a version, to read; with Edit they can be changed, and saving makes the next version.
import { useNavigate } from "@tanstack/react-router";
import { FileCode2, FileDigit, FilePlus2, Pencil, Save, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { type SourceFile, useEditEvaluator, useEvaluatorSource } from "~/api/evaluators";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { Button, IconButton } from "~/design/Button";
import { CodeEditor } from "~/design/CodeEditor";
import { CopyButton } from "~/design/Copy";
import { Input } from "~/design/Field";
import { bytes } from "~/design/figures";
import { Loaded } from "~/design/Panel";
import { toast } from "~/design/Toast";
import { changedFiles, firstFile } from "./edits";

export function EvaluatorSource(props: { id: string; version: number; newest: number; entryPoint: string }) {
  const source = useEvaluatorSource(props.id, props.version);
  return (
    <Loaded query={source} what="The source" lines={12}>
      {(files) => <Files key={props.version} {...props} files={files} />}
    </Loaded>
  );
}

function Files(props: {
  id: string;
  version: number;
  newest: number;
  entryPoint: string;
  files: SourceFile[];
}) {
  const { id, version, newest, files } = props;
  const [path, setPath] = useState(() => firstFile(files, props.entryPoint));
  const [editing, setEditing] = useState(false);
  const [drafts, setDrafts] = useState<Record<string, string | null>>({});
  const [message, setMessage] = useState("");
  const edit = useEditEvaluator(id);
  const navigate = useNavigate();
  const changes = useMemo(() => changedFiles(files, drafts), [files, drafts]);
  const changed = Object.keys(changes).length;
  const added = Object.keys(drafts).filter((one) => !files.some((file) => file.path === one));
  const file = files.find((one) => one.path === path);
  const text = path in drafts ? drafts[path] : file?.text;

  const save = () => {
    if (!changed || edit.isPending) return;
    // Not a callback of `mutate`: those are lost when the new version replaces this component first.
    edit
      .mutateAsync({ baseVersion: version, files: changes, message })
      .then((made) => {
        toast(`Version ${made.version} is being built.`);
        setEditing(false);
        setDrafts({});
        setMessage("");
        navigate({ to: `/dashboard/evaluators/${id}`, search: { tab: "build" } as never });
      })
      .catch(() => undefined); // shown below the editor
  };
  const add = () => {
    const name = window.prompt("Path of the new file, e.g. scoring.py")?.trim();
    if (!name) return;
    setDrafts({ ...drafts, [name]: files.find((one) => one.path === name)?.text ?? "" });
    setPath(name);
  };

  return (
    <div className="grid min-w-0 overflow-hidden rounded-lg border bg-surface md:grid-cols-[15rem_minmax(0,1fr)]">
      <nav
        aria-label="Files"
        className="flex max-h-44 flex-col border-b bg-raised md:max-h-none md:border-r md:border-b-0"
      >
        <ul className="min-h-0 flex-1 overflow-y-auto p-1.5">
          {[...files.map((one) => one.path), ...added].map((one) => (
            <li key={one}>
              <button
                type="button"
                aria-current={one === path ? "true" : undefined}
                onClick={() => setPath(one)}
                className={`flex w-full items-center gap-2 rounded px-2 py-1 text-left font-mono text-xs ${
                  one === path ? "bg-accent-soft text-accent-text" : "hover:bg-sunken"
                }`}
              >
                {files.find((each) => each.path === one)?.text === null ? (
                  <FileDigit size={14} className="shrink-0" />
                ) : (
                  <FileCode2 size={14} className="shrink-0" />
                )}
                <span className={`min-w-0 break-all ${changes[one] === null ? "line-through" : ""}`}>
                  {one}
                </span>
                {one in changes && (
                  <span className="ml-auto text-fair" title={changes[one] === null ? "removed" : "changed"}>
                    ●<span className="sr-only">{changes[one] === null ? "removed" : "changed"}</span>
                  </span>
                )}
              </button>
            </li>
          ))}
        </ul>
        {editing && (
          <div className="border-t p-1.5">
            <Button small kind="quiet" icon={<FilePlus2 size={14} />} onClick={add}>
              New file
            </Button>
          </div>
        )}
      </nav>
      <div className="flex min-w-0 flex-col">
        <div className="flex flex-wrap items-center justify-between gap-2 border-b bg-raised px-3 py-1.5">
          <span className="min-w-0 font-mono text-xs break-all">
            {path}
            {file && <span className="ml-2 text-ink-faint">{bytes(file.size)}</span>}
          </span>
          <div className="flex flex-wrap items-center gap-1.5">
            {typeof text === "string" && <CopyButton text={text} label="Copy file" />}
            {!editing ? (
              <ChangeButton
                small
                icon={<Pencil size={13} />}
                disabled={version !== newest}
                title={version !== newest ? `Version ${newest} is the newest: edit that one.` : undefined}
                onClick={() => setEditing(true)}
              >
                Edit
              </ChangeButton>
            ) : (
              <>
                <IconButton
                  label={drafts[path] === null ? "Keep this file" : "Remove this file"}
                  onClick={() => {
                    const { [path]: draft, ...rest } = drafts;
                    setDrafts(draft === null ? rest : { ...drafts, [path]: null });
                  }}
                >
                  <Trash2 size={14} />
                </IconButton>
                <Button
                  small
                  onClick={() => {
                    if (changed && !window.confirm("Forget what you changed?")) return;
                    setDrafts({});
                    setEditing(false);
                    edit.reset();
                    setPath(firstFile(files, props.entryPoint));
                  }}
                >
                  Cancel
                </Button>
              </>
            )}
          </div>
        </div>
        {text === null || text === undefined ? (
          <p className="p-6 text-ink-soft">
            {drafts[path] === null
              ? "This file is removed in the next version."
              : "This file is not text, or larger than 256 KiB: it is not shown."}
          </p>
        ) : (
          <CodeEditor
            key={`${path} ${editing}`}
            name={path}
            value={text}
            readOnly={!editing}
            onChange={(next) => setDrafts((before) => ({ ...before, [path]: next }))}
            onSave={save}
            className="h-[clamp(18rem,62dvh,48rem)]"
          />
        )}
        {editing && (
          <form
            className="flex flex-wrap items-center gap-2 border-t bg-raised px-3 py-2"
            onSubmit={(event) => {
              event.preventDefault();
              save();
            }}
          >
            <Input
              aria-label="What changed"
              placeholder="What changed (optional)"
              value={message}
              maxLength={300}
              onChange={(event) => setMessage(event.target.value)}
              className="min-w-40 flex-1"
            />
            <Button
              type="submit"
              kind="primary"
              icon={<Save size={14} />}
              disabled={!changed}
              busy={edit.isPending}
            >
              Save as version {newest + 1}
            </Button>
            {edit.error && (
              <p role="alert" className="w-full break-words text-bad">
                {edit.error.message}
              </p>
            )}
          </form>
        )}
      </div>
    </div>
  );
}

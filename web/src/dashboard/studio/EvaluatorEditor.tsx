// The evaluator's source while it scores: edit, save, and the next step uses it. Every save is a version, built and kept.
import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useControl } from "~/api/control";
import {
  type EvaluatorVersion,
  type SourceFile,
  useEditEvaluator,
  useEvaluatorSource,
  useEvaluatorVersion,
  useEvaluatorVersions,
} from "~/api/evaluators";
import { unfinished } from "~/api/fineTuningJobs";
import { ApiError } from "~/api/http";
import { shortId } from "~/api/names";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RunEvent } from "~/api/rft";
import { Button } from "~/design/Button";
import { CodeEditor } from "~/design/CodeEditor";
import { Empty, Loaded, Panel } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { toastError } from "~/design/Toast";
import { useMayChange } from "../session";
import { problemsIn } from "./steering";
import { VersionState, Versions } from "./Versions";

export function EvaluatorEditor(props: { job: RftJob; id: string; events: readonly RunEvent[] }) {
  const evaluator = shortId(props.job.evaluator);
  const versions = useEvaluatorVersions(evaluator);
  return (
    <Loaded query={versions} what="The evaluator" lines={8}>
      {(all) =>
        all[0] ? (
          <Editor {...props} evaluator={evaluator} versions={all} newest={all[0]} />
        ) : (
          <Panel title="Evaluator">
            <Empty title="No version of the evaluator is kept">
              It was uploaded before versions were kept, or was removed. Upload it again to edit it here.
            </Empty>
          </Panel>
        )
      }
    </Loaded>
  );
}

interface EditorProps {
  job: RftJob;
  id: string;
  events: readonly RunEvent[];
  evaluator: string;
  versions: EvaluatorVersion[];
  newest: EvaluatorVersion;
}

function Editor(props: EditorProps) {
  const { evaluator, newest } = props;
  /** The version that is edited: saved edits go on from what was saved, others' saves are offered. */
  const [base, setBase] = useState(newest.version);
  const [edits, setEdits] = useState<Record<string, string>>({});
  const dirty = Object.keys(edits).length > 0;
  if (base < newest.version && !dirty) setBase(newest.version);
  const source = useEvaluatorSource(evaluator, base);
  return (
    <Panel title="Evaluator" flush actions={<VersionState {...props} version={newest} />}>
      {base < newest.version && dirty && (
        <div
          role="alert"
          className="flex flex-wrap items-center gap-2 border-b bg-fair-soft px-4 py-2 text-[13px]"
        >
          <span className="flex-1">
            Version {newest.version} was saved elsewhere while you edited version {base}.
          </span>
          <Button small onClick={() => setEdits({})}>
            Take it, drop my edits
          </Button>
          <Button small onClick={() => setBase(newest.version)}>
            Keep mine on top of it
          </Button>
        </div>
      )}
      <Loaded query={source} what="The source" lines={8}>
        {(files) => (
          <Files {...props} base={base} files={files} edits={edits} onEdits={setEdits} onSaved={setBase} />
        )}
      </Loaded>
      <Versions {...props} />
    </Panel>
  );
}

function Files(
  props: EditorProps & {
    base: number;
    files: SourceFile[];
    edits: Record<string, string>;
    onEdits: (edits: Record<string, string>) => void;
    onSaved: (version: number) => void;
  },
) {
  const { job, evaluator, newest, files, edits, onEdits } = props;
  const mayChange = useMayChange();
  const edit = useEditEvaluator(evaluator);
  const control = useControl(props.id);
  const client = useQueryClient();
  const texts = files.filter((file) => file.text !== null && !/\.(jsonl|csv|txt\.gz)$/.test(file.path));
  const entry = entryOf(newest, texts);
  const [path, setPath] = useState<string | null>(null);
  const file = texts.find((one) => one.path === (path ?? entry)) ?? texts[0];
  const failed = newest.state === "BUILD_FAILED";
  const built = useEvaluatorVersion(evaluator, failed ? newest.version : undefined);
  const log = failed ? `${built.data?.buildLog ?? ""}\n${newest.status?.message ?? ""}` : "";
  const problems = useMemo(
    () => (log && file && Object.keys(edits).length === 0 ? problemsIn(log, file.path) : []),
    [log, file, edits],
  );
  const dirty = Object.keys(edits).length > 0;
  const running = unfinished(job.state);

  const save = async () => {
    if (!dirty || edit.isPending || !mayChange) return;
    try {
      // What is saved here shall count: a version that the job was told to keep gives way.
      if (running && !job.control.requested.autoEvaluatorVersion)
        await control.mutateAsync({ evaluatorVersion: null, autoEvaluatorVersion: true });
      const made = await edit.mutateAsync({
        baseVersion: props.base,
        files: edits,
        message: "Edited in the studio",
      });
      // The new version's source is known: the editor keeps its place and its history.
      client.setQueryData<SourceFile[]>(
        ["evaluators", evaluator, "versions", made.version, "source"],
        files.map((one) => ({ ...one, text: edits[one.path] ?? one.text })),
      );
      onEdits({});
      props.onSaved(made.version);
    } catch (error) {
      if (error instanceof ApiError && error.status === 409)
        toastError(
          new Error("Somebody saved another version meanwhile. Choose above what to do with your edits."),
        );
      else toastError(error);
    }
  };
  if (!file) return <p className="p-4 text-ink-soft">This version holds no text that can be edited.</p>;
  const change = (text: string) => {
    const { [file.path]: _, ...others } = edits;
    onEdits(text === file.text ? others : { ...others, [file.path]: text });
  };
  return (
    <>
      <div className="px-2 pt-1">
        <Tabs
          label="Files"
          active={file.path}
          onChange={setPath}
          tabs={texts.map((one) => ({
            id: one.path,
            label: one.path in edits ? `${one.path} •` : one.path,
          }))}
        />
      </div>
      <CodeEditor
        key={`${file.path} ${evaluator}`}
        name={file.path}
        value={edits[file.path] ?? file.text ?? ""}
        onChange={change}
        onSave={save}
        readOnly={!mayChange}
        problems={problems}
        className="h-[26rem]"
      />
      <div className="flex flex-wrap items-center justify-between gap-2 border-t px-4 py-2">
        <span className="text-xs text-ink-soft">
          {dirty
            ? `${Object.keys(edits).length === 1 ? "1 file" : `${Object.keys(edits).length} files`} changed`
            : mayChange
              ? "Ctrl+S saves; the next step uses it once it is built"
              : "Looking only: sign in to edit"}
        </span>
        <div className="flex gap-2">
          <Button small disabled={!dirty} onClick={() => onEdits({})}>
            Undo all
          </Button>
          <Button small kind="primary" disabled={!dirty || !mayChange} busy={edit.isPending} onClick={save}>
            Save
          </Button>
        </div>
      </div>
      {failed && log.trim() && (
        <div role="alert" className="border-t bg-bad-soft px-4 py-3">
          <p className="font-semibold text-bad">
            Version {newest.version} could not be built; the one before it goes on scoring.
          </p>
          <pre
            // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
            tabIndex={0}
            className="mt-1 max-h-48 overflow-auto font-mono text-xs leading-5 whitespace-pre-wrap"
          >
            {log.trim().split("\n").slice(-25).join("\n")}
          </pre>
        </div>
      )}
    </>
  );
}

/** The file that holds the evaluation test. */
function entryOf(version: EvaluatorVersion, files: readonly SourceFile[]): string | undefined {
  const named = version.entryPoint?.split("::")[0];
  return (files.find((file) => file.path === named) ?? files.find((file) => file.path.endsWith(".py")))?.path;
}

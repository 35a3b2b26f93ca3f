// A code editor that is loaded when it is first shown; until then the text stands there as it is.
import { clsx } from "clsx";
import { lazy, Suspense } from "react";

export interface CodeProblem {
  /** From 1. Beyond the end: the last line. */
  line: number;
  message: string;
  severity?: "error" | "warning" | "info";
}

export interface CodeEditorProps {
  value: string;
  /** What is edited, read aloud, e.g. "evaluator.py". A name that ends in .py is coloured as Python. */
  name: string;
  onChange?: (value: string) => void;
  /** Ctrl+S or Cmd+S. */
  onSave?: () => void;
  readOnly?: boolean;
  problems?: readonly CodeProblem[];
  /** Gives the height, e.g. "h-96". */
  className?: string;
}

const Editor = lazy(() => import("./CodeMirror"));

/** Give another `key` to another file, so that each has its own undo history. */
export function CodeEditor(props: CodeEditorProps) {
  return (
    <div className={clsx("min-h-0 min-w-0 overflow-hidden", props.className)}>
      <Suspense
        fallback={
          <pre className="h-full overflow-hidden p-3 font-mono text-xs leading-5 text-ink-soft">
            {props.value}
          </pre>
        }
      >
        <Editor {...props} />
      </Suspense>
    </div>
  );
}

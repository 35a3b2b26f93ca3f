// What an edit of an evaluator's files comes to.
import type { SourceFile } from "~/api/evaluators";

/** The drafts that differ from the files: text by path, null for a file that goes. */
export function changedFiles(
  files: readonly SourceFile[],
  drafts: Record<string, string | null>,
): Record<string, string | null> {
  const before = new Map(files.map((file) => [file.path, file.text]));
  return Object.fromEntries(
    Object.entries(drafts).filter(([path, text]) =>
      text === null ? before.has(path) : !before.has(path) || before.get(path) !== text,
    ),
  );
}

/** The file that is shown first: the one of the entry point (`file.py::function`), else the first Python file. */
export function firstFile(files: readonly SourceFile[], entryPoint: string): string {
  const entry = entryPoint.split("::")[0];
  return (
    files.find((file) => file.path === entry)?.path ??
    files.find((file) => file.path.endsWith(".py"))?.path ??
    files[0]?.path ??
    ""
  );
}

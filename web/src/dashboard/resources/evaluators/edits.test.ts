// @vitest-environment node
import { expect, test } from "vitest";
import { changedFiles, firstFile } from "./edits";

const FILES = [
  { path: "requirements.txt", size: 3, text: "a\n" },
  { path: "helper.py", size: 3, text: "x = 1\n" },
  { path: "evaluation.py", size: 3, text: "y = 1\n" },
  { path: "font.ttf", size: 9, text: null },
];

test("only what differs is sent", () => {
  const drafts = {
    "helper.py": "x = 2\n",
    "evaluation.py": "y = 1\n",
    "new.py": "",
    "gone.py": null,
    "font.ttf": null,
  };
  expect(changedFiles(FILES, drafts)).toEqual({ "helper.py": "x = 2\n", "new.py": "", "font.ttf": null });
});

test("the entry point's file comes first", () => {
  expect(firstFile(FILES, "evaluation.py::gsm8k")).toBe("evaluation.py");
  expect(firstFile(FILES, "missing.py::f")).toBe("helper.py");
  expect(firstFile([], "")).toBe("");
});

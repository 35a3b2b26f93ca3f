// @vitest-environment node
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { asTokens, readRun } from "./data";

const RUN = JSON.stringify({ format: 1, job: { name: "x" }, steps: [] });

test("a run is read as it is, and packed", async () => {
  expect((await readRun(RUN)).job.name).toBe("x");
  const data = gzipSync(RUN).toString("base64");
  expect((await readRun(JSON.stringify({ encoding: "gzip+base64", data }))).job.name).toBe("x");
});

test("a file that cannot be read says why", async () => {
  await expect(readRun(" ")).rejects.toThrow("the viewer alone");
  await expect(readRun("{")).rejects.toThrow("damaged");
  await expect(readRun('{"encoding": "zip"}')).rejects.toThrow("zip");
  await expect(readRun('{"format": 2}')).rejects.toThrow("format 2");
});

test("only sampled tokens carry the advantage", () => {
  expect(
    asTokens(
      [
        ["a", null],
        ["b", -0.5],
      ],
      1.5,
    ),
  ).toEqual([
    { text: "a", logprob: null, sampled: false, advantage: null },
    { text: "b", logprob: -0.5, sampled: true, advantage: 1.5 },
  ]);
});

// @vitest-environment node
import { expect, test } from "vitest";
import type { Model } from "~/api/models";
import { bodyOf, commandOf, EMPTY, type Form, formOf } from "./body";
import { OPTIONS, problemOf, rangeOf } from "./options";

const BASE = {
  name: "accounts/x/models/base",
  contextLength: 4096,
  trainingOptions: {
    rft: {
      learningRate: { default: 1e-3, low: 1e-5, high: 5e-3 },
      maxOutputTokens: { default: 80, low: 16, high: 4096 },
    },
    sft: { loraRank: { default: 16, choices: [0, 16, 32] } },
    dpo: {},
  },
} as unknown as Model;

const rft = (changes: Partial<Form> = {}): Form => ({
  ...EMPTY,
  kind: "rft",
  baseModel: BASE.name,
  dataset: "d",
  evaluator: "e",
  ...changes,
});
const option = (key: string, kind: "rft" | "sft" = "rft") => {
  const found = OPTIONS[kind].find((one) => one.key === key);
  if (!found) throw new Error(key);
  return found;
};

test("fields at their defaults are not sent, also when typed", () => {
  expect(
    bodyOf(rft({ values: { learningRate: "0.001", n: "8", temperature: "1.0", seed: "0" } }), BASE),
  ).toEqual({
    dataset: "d",
    evaluator: "e",
    trainingConfig: { baseModel: BASE.name },
  });
});

test("what differs stands where the API has it", () => {
  const values = {
    learningRate: "1e-4",
    n: "4",
    lossMethod: "GRPO",
    klBeta: "0.01",
    seed: "7",
    stop: "</a>\nEnd",
    keepAllCheckpoints: "true",
  };
  expect(bodyOf(rft({ values, carveout: true, displayName: " try " }), BASE)).toEqual({
    dataset: "d",
    evaluator: "e",
    displayName: "try",
    evalAutoCarveout: true,
    keepAllCheckpoints: true,
    trainingConfig: { baseModel: BASE.name, learningRate: 1e-4 },
    inferenceParameters: { responseCandidatesCount: 4, extraBody: '{"seed":7,"stop":["</a>","End"]}' },
    lossConfig: { method: "GRPO", klBeta: 0.01 },
  });
});

test("a quorum goes with a deadline", () => {
  const values = { groupDeadlineSeconds: "2.5", groupQuorum: "4" };
  expect(bodyOf(rft({ values }), BASE)).toMatchObject({ groupDeadlineSeconds: 2.5, groupQuorum: 4 });
  expect(commandOf(rft({ values }), BASE)).toContain("--group-deadline-seconds 2.5 \\\n  --group-quorum 4");
  const alone = bodyOf(rft({ values: { groupQuorum: "4" } }), BASE);
  expect("groupQuorum" in alone).toBe(false);
  expect(problemOf(option("groupQuorum"), "1", rangeOf("rft", option("groupQuorum"), BASE))).toBe(
    "At least 2.",
  );
  const job = { dataset: "d", evaluator: "e", trainingConfig: {}, groupDeadlineSeconds: 2.5, groupQuorum: 4 };
  expect(formOf("rft", job, BASE).values).toMatchObject(values);
});

test("a second evaluator and a preflight's rows are sent, and the evaluator comes back from a job", () => {
  const form = rft({ auditEvaluator: "accounts/local/evaluators/judge", values: { preflightRows: "0" } });
  expect(bodyOf(form, BASE)).toMatchObject({
    auditEvaluator: "accounts/local/evaluators/judge",
    preflight: { rows: 0 },
  });
  expect(commandOf(form, BASE)).toMatch(/--audit-evaluator judge .*--preflight-rows 0 /s);
  const job = { ...bodyOf(form, BASE), preflight: { rows: 4, verdict: "Trainable" }, preflightOnly: true };
  expect(formOf("rft", job, BASE)).toMatchObject({ auditEvaluator: form.auditEvaluator, values: {} });
  for (const preflightRows of [0, 64]) {
    const shown = { ...job, preflightOnly: false, preflightRows };
    expect(formOf("rft", shown, BASE).values).toEqual({ preflightRows: `${preflightRows}` });
    expect(formOf("rft", { ...shown, preflightOnly: true }, BASE).values).toEqual({});
  }
});

test("an option that no longer applies is not sent", () => {
  expect(bodyOf(rft({ values: { lossMethod: "DAPO", klBeta: "0.01" } }), BASE).lossConfig).toEqual({
    method: "DAPO",
  });
});

test("a warm start takes the base model's place", () => {
  expect(bodyOf(rft({ warmStartFrom: "accounts/a/models/m" }), BASE).trainingConfig).toEqual({
    warmStartFrom: "accounts/a/models/m",
  });
});

test("SFT is flat, with its scheduler as one object", () => {
  const form: Form = {
    ...EMPTY,
    kind: "sft",
    baseModel: "b",
    dataset: "d",
    values: { schedule: "cosine", minLrRatio: "0.1", loraRank: "16" },
  };
  expect(bodyOf(form, BASE)).toEqual({
    baseModel: "b",
    dataset: "d",
    lrScheduler: { cosine: { minLrRatio: 0.1 } },
  });
});

test("the command says the same as the body", () => {
  const command = commandOf(
    rft({ values: { learningRate: "1e-4", stop: "it's" }, carveout: true }),
    BASE,
  ).replaceAll(" \\\n ", "");
  expect(command).toBe(
    `ep create rft --base-model ${BASE.name} --dataset d --evaluator e --eval-auto-carveout --learning-rate 1e-4 --extra-body '{"stop":["it'\\''s"]}' --yes --wait`,
  );
  expect(commandOf(rft({ values: { keepAllCheckpoints: "true" } }), BASE)).toContain(
    "# keepAllCheckpoints: no flag",
  );
});

test("a job read back gives the body that made it", () => {
  const job = {
    dataset: "accounts/a/datasets/d",
    evaluator: "accounts/a/evaluators/e",
    evalAutoCarveout: true,
    chunkSize: 10,
    maxConcurrentRollouts: 96,
    trainingConfig: {
      baseModel: BASE.name,
      outputModel: "accounts/a/models/j",
      epochs: 1,
      learningRate: 0.001,
      loraRank: 8,
      learningRateWarmupSteps: 0,
      optimizerWeightDecay: 0,
    },
    inferenceParameters: {
      maxOutputTokens: 80,
      temperature: 0.8,
      topP: 1,
      topK: 0,
      responseCandidatesCount: 8,
      extraBody: '{"seed": 3}',
    },
    lossConfig: { method: "METHOD_UNSPECIFIED" },
    keepAllCheckpoints: false,
  };
  expect(bodyOf(formOf("rft", job, BASE), BASE)).toEqual({
    dataset: "accounts/a/datasets/d",
    evaluator: "accounts/a/evaluators/e",
    evalAutoCarveout: true,
    chunkSize: 10,
    trainingConfig: { baseModel: BASE.name },
    inferenceParameters: { temperature: 0.8, extraBody: '{"seed":3}' },
  });
});

test("ranges are the base model's, else the documented ones", () => {
  const rate = option("learningRate");
  expect(problemOf(rate, "0.004", rangeOf("rft", rate, BASE))).toBeUndefined();
  expect(problemOf(rate, "0.004", rangeOf("rft", rate, undefined))).toBe("At most 0.0005.");
  expect(problemOf(rate, "abc", {})).toBe("Not a number.");
  const chunk = option("chunkSize");
  expect(problemOf(chunk, "-1", rangeOf("rft", chunk, BASE))).toBeUndefined();
  expect(problemOf(chunk, "0", rangeOf("rft", chunk, BASE))).toBe("At least 1.");
  const rank = option("loraRank", "sft");
  expect(problemOf(rank, "5", rangeOf("sft", rank, BASE))).toBe("One of 0, 16, 32.");
  expect(problemOf(option("n"), "2.5", rangeOf("rft", option("n"), BASE))).toBe("A whole number.");
});

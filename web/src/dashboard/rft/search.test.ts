import { expect, test } from "vitest";
import { parseJobSearch, rolloutQuery } from "./search";

test("a URL's query becomes a search; what it cannot mean is left out", () => {
  expect(
    parseJobSearch({
      tab: "epoch",
      epoch: 1,
      step: "12",
      min: "0.5",
      valid: "false",
      contains: 42,
      rollout: "a-b",
      page: 2,
    }),
  ).toEqual({
    tab: "epoch",
    epoch: 1,
    step: 12,
    min: 0.5,
    valid: false,
    contains: "42",
    rollout: "a-b",
    page: 2,
  });
  expect(
    parseJobSearch({
      tab: "nonsense",
      epoch: -1,
      step: 1.5,
      min: "x",
      valid: "maybe",
      smoothing: 7,
      view: "pie",
      kind: "train",
    }),
  ).toEqual({});
});

test("a search becomes what the server is asked for", () => {
  expect(
    rolloutQuery({ epoch: 2, step: 3, sort: "-score", page: 3, min: 0.2, valid: true, contains: "red" }),
  ).toEqual({
    kind: "train",
    epoch: 2,
    step: 3,
    minScore: 0.2,
    maxScore: undefined,
    valid: true,
    contains: "red",
    orderBy: "score desc",
    pageSize: 25,
    offset: 50,
  });
});

test("held-out rollouts belong to no epoch", () => {
  expect(rolloutQuery({ kind: "evaluation", epoch: 2, sort: "score" })).toMatchObject({
    kind: "evaluation",
    epoch: undefined,
    orderBy: "score",
    offset: undefined,
  });
});

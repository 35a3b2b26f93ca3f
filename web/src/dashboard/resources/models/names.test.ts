// @vitest-environment node
import { expect, test } from "vitest";
import { modelLabel, modelPath } from "./names";
import { SNIPPETS, snippet } from "./snippets";

test("a base model's page keeps its account", () => {
  expect(modelPath("accounts/local/models/m1")).toBe("/dashboard/models/m1");
  expect(modelPath("accounts/tunesmith/models/b")).toBe("/dashboard/models/b?account=tunesmith");
});

test("a model without a display name is called by its id", () => {
  expect(modelLabel({ name: "accounts/local/models/m1" })).toBe("m1");
  expect(modelLabel({ name: "accounts/local/models/m1", displayName: "Mine" })).toBe("Mine");
});

test("every example calls the model at this platform", () => {
  for (const { id } of SNIPPETS) {
    const text = snippet(id, "accounts/local/models/m1", "https://host:1");
    expect(text).toContain("accounts/local/models/m1");
    expect(text).toContain("https://host:1/inference/v1");
  }
});

// @vitest-environment node
import { expect, test } from "vitest";
import { titleOf } from "./titles";

test("a page of one thing names the thing first", () => {
  const places = [
    { staticData: {}, params: {} },
    { staticData: { title: "Dataset" }, params: { datasetId: "chats" } },
  ];
  expect(titleOf(places)).toBe("chats · Dataset · Tunesmith");
});

test("a list has its name, a page without one the product's", () => {
  expect(titleOf([{ staticData: { title: "Datasets" }, params: {} }])).toBe("Datasets · Tunesmith");
  expect(titleOf([{ staticData: {}, params: {} }])).toBe("Tunesmith");
});

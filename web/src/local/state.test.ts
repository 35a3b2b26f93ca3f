import { expect, test } from "vitest";
import { DEFAULTS, filterText, readState, withEquals, writeState } from "./state";

const LINK =
  '?filterConfig=[{"logic": "AND", "filters": [{"field": "$.execution_metadata.invocation_id", "operator": "==", "value": "emotional-wish-75", "type": "text"}]}]';

test("the documented link is read, and defaults are left out of what is written", () => {
  const state = readState(encodeURI(LINK));
  expect(state.filterConfig[0]?.filters[0]).toEqual({
    field: "$.execution_metadata.invocation_id",
    operator: "==",
    value: "emotional-wish-75",
    type: "text",
  });
  expect(readState(writeState(state))).toEqual(state);
  expect(writeState(DEFAULTS)).toBe("");
  expect(readState("")).toEqual(DEFAULTS);
});

test("every part comes back as it was written", () => {
  const state = {
    ...DEFAULTS,
    pivotConfig: {
      ...DEFAULTS.pivotConfig,
      selectedRowFields: [],
      selectedAggregator: "pass@k" as const,
      k: 4,
    },
    paginationConfig: { currentPage: 7, pageSize: 100 },
    sortConfig: { sortField: "$.evaluation_result.score", sortDirection: "asc" as const },
    compareConfig: { by: "model" as const, left: "a/b?c&d", right: "1234", show: "wins" as const },
  };
  const written = writeState(state);
  expect(readState(written)).toEqual(state);
  expect(new URLSearchParams(written).get("pivotConfig.selectedAggregator")).toBe('"pass@k"');
  expect(new URLSearchParams(written).has("pivotConfig.selectedColumnFields")).toBe(false);
});

test("nonsense in the address counts as not given", () => {
  expect(
    readState("?filterConfig={broken&paginationConfig.currentPage=-3&sortConfig.sortDirection=7"),
  ).toEqual(DEFAULTS);
  expect(
    readState('?filterConfig=[1,null,{"filters":[5,{"field":3}]}]').filterConfig.flatMap(
      (one) => one.filters,
    ),
  ).toHaveLength(2);
  expect(readState("?paginationConfig.pageSize=999999").paginationConfig.pageSize).toBe(1000);
});

test("a filter without a value restricts nothing and is not sent", () => {
  const filter = { field: "$.a", operator: "==" as const, value: "", type: "text" as const };
  expect(filterText([{ logic: "AND", filters: [filter] }])).toBe("");
  expect(
    filterText([{ logic: "OR", filters: [{ ...filter, operator: "between", value: "1", type: "number" }] }]),
  ).toBe("");
  expect(
    JSON.parse(filterText([{ logic: "OR", filters: [filter, { ...filter, value: "x" }] }]))[0].filters,
  ).toHaveLength(1);
});

test("a click on an id adds one condition, and a second click on another replaces it", () => {
  const once = withEquals([], { field: "$.id", value: "a" });
  expect(once).toEqual([
    { logic: "AND", filters: [{ field: "$.id", operator: "==", value: "a", type: "text" }] },
  ]);
  expect(withEquals(once, { field: "$.id", value: "b" })[0]?.filters.map((one) => one.value)).toEqual(["b"]);
  const beside = withEquals([{ logic: "OR", filters: [] }], { field: "$.id", value: "a" });
  expect(beside.map((group) => group.logic)).toEqual(["OR", "AND"]);
});

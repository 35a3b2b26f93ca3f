import { act, renderHook } from "@testing-library/react";
import { expect, test } from "vitest";
import type { RowPage, RowSummary } from "../rows";
import { DEFAULTS } from "../state";
import { useHeld } from "./useHeld";

const row = (rolloutId: string, score: number | null = null) => ({ rolloutId, score }) as RowSummary;
const page = (matching: number, ...rows: RowSummary[]): RowPage => ({
  rows,
  matching,
  total: matching,
  page: 1,
  pageSize: 2,
});

test("rows keep their places while one is read, and show what came when asked", () => {
  const { result, rerender } = renderHook(
    ({ data, reading, state }) => useHeld({ data, isPlaceholderData: false }, state, reading),
    { initialProps: { data: page(2, row("b"), row("a")), reading: false, state: DEFAULTS } },
  );
  rerender({ data: page(2, row("b"), row("a")), reading: true, state: DEFAULTS });
  rerender({ data: page(3, row("c"), row("b", 1)), reading: true, state: DEFAULTS });
  expect(result.current[0]?.rows).toEqual([row("b", 1), row("a")]);
  expect(result.current[0]?.matching).toBe(3);
  expect(result.current[1]).toBe(1);
  act(() => result.current[2]());
  expect(result.current[0]?.rows.map((one) => one.rolloutId)).toEqual(["c", "b"]);
  expect(result.current[1]).toBe(0);
});

test("another view, or nothing open, shows what there is", () => {
  const { result, rerender } = renderHook(
    ({ data, reading, state }) => useHeld({ data, isPlaceholderData: false }, state, reading),
    { initialProps: { data: page(2, row("b"), row("a")), reading: true, state: DEFAULTS } },
  );
  const elsewhere = { ...DEFAULTS, paginationConfig: { currentPage: 2, pageSize: 2 } };
  rerender({ data: page(4, row("d")), reading: true, state: elsewhere });
  expect(result.current[0]?.rows).toEqual([row("d")]);
  rerender({ data: page(5, row("e")), reading: false, state: elsewhere });
  expect(result.current[0]?.rows).toEqual([row("e")]);
});

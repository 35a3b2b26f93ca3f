import { cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import { type Column, DataTable } from "./DataTable";

interface Thing {
  id: string;
  size: number | null;
}

const COLUMNS: Column<Thing>[] = [
  { id: "name", header: "Name", sort: "name", value: (thing) => thing.id, cell: (thing) => thing.id },
  {
    id: "size",
    header: "Size",
    sort: "size",
    align: "right",
    value: (thing) => thing.size,
    cell: (thing) => String(thing.size),
  },
  { id: "more", header: "More", hidden: true, cell: () => "hidden at first" },
];
const THINGS: Thing[] = [
  { id: "b", size: 2 },
  { id: "c", size: null },
  { id: "a", size: 10 },
];
const names = () =>
  screen
    .getAllByRole("row")
    .slice(1)
    .map((row) => within(row).getAllByRole("cell")[0]?.textContent);

afterEach(() => {
  cleanup();
  localStorage.clear();
});

test("without a server the page sorts, numbers from the largest, what has none last", async () => {
  render(<DataTable label="Things" columns={COLUMNS} rows={THINGS} rowKey={(thing) => thing.id} />);
  await userEvent.click(screen.getByRole("button", { name: "Size" }));
  expect(names()).toEqual(["a", "b", "c"]);
  expect(screen.getByRole("columnheader", { name: "Size" }).getAttribute("aria-sort")).toBe("descending");
  await userEvent.click(screen.getByRole("button", { name: "Size" }));
  expect(names()).toEqual(["b", "a", "c"]);
  await userEvent.click(screen.getByRole("button", { name: "Size" }));
  expect(names()).toEqual(["b", "c", "a"]);
});

test("with a server it asks for the other order and leaves the rows as they came", async () => {
  const onSort = vi.fn();
  render(
    <DataTable
      label="Things"
      columns={COLUMNS}
      rows={THINGS}
      rowKey={(thing) => thing.id}
      sort={{ by: "size", descending: true }}
      onSort={onSort}
    />,
  );
  await userEvent.click(screen.getByRole("button", { name: "Size" }));
  await userEvent.click(screen.getByRole("button", { name: "Name" }));
  expect(onSort.mock.calls.map(([sort]) => sort)).toEqual([
    { by: "size", descending: false },
    { by: "name", descending: false },
  ]);
  expect(names()).toEqual(["b", "c", "a"]);
});

test("rows open with the keyboard and by their arrow, and arrows move between them", async () => {
  render(
    <DataTable
      label="Things"
      columns={COLUMNS}
      rows={THINGS}
      rowKey={(thing) => thing.id}
      expand={(thing) => <p>inside {thing.id}</p>}
    />,
  );
  const rows = () => screen.getAllByRole("row");
  rows()[1]?.focus();
  await userEvent.keyboard("{ArrowDown}{Enter}");
  expect(screen.getByText("inside c")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Close row" }));
  expect(screen.queryByText("inside c")).toBeNull();
});

test("a click on a button inside a row is not a click on the row", async () => {
  const onRowClick = vi.fn();
  const columns: Column<Thing>[] = [
    { id: "act", header: "Act", cell: () => <button type="button">Act</button> },
    ...COLUMNS.slice(0, 1),
  ];
  render(
    <DataTable
      label="Things"
      columns={columns}
      rows={THINGS.slice(0, 1)}
      rowKey={(thing) => thing.id}
      onRowClick={onRowClick}
    />,
  );
  await userEvent.click(screen.getByRole("button", { name: "Act" }));
  expect(onRowClick).not.toHaveBeenCalled();
  await userEvent.click(screen.getByText("b"));
  expect(onRowClick).toHaveBeenCalledWith(THINGS[0]);
});

test("columns are chosen in a menu and remembered", async () => {
  const table = () => (
    <DataTable label="Things" name="things" columns={COLUMNS} rows={THINGS} rowKey={(thing) => thing.id} />
  );
  const { unmount } = render(table());
  expect(screen.queryByRole("columnheader", { name: "More" })).toBeNull();
  await userEvent.click(screen.getByRole("button", { name: "Columns" }));
  await userEvent.click(screen.getByRole("menuitemcheckbox", { name: "More" }));
  await userEvent.click(screen.getByRole("menuitemcheckbox", { name: "Size" }));
  unmount();
  render(table());
  expect(screen.getAllByRole("columnheader").map((head) => head.textContent)).toEqual(["Name", "More"]);
});

test("nothing yet, nothing at all, and more than the page can bear look different", () => {
  const { rerender } = render(
    <DataTable label="Things" columns={COLUMNS} rows={undefined} rowKey={(one) => one.id} />,
  );
  expect(screen.getByText("Loading")).toBeTruthy();
  rerender(
    <DataTable label="Things" columns={COLUMNS} rows={[]} rowKey={(one) => one.id} empty="None at all" />,
  );
  expect(screen.getByText("None at all")).toBeTruthy();
  const many = Array.from({ length: 5000 }, (_, place) => ({ id: `t${place}`, size: place }));
  rerender(<DataTable label="Things" columns={COLUMNS} rows={many} rowKey={(one) => one.id} />);
  expect(screen.getAllByRole("row").length).toBeLessThan(200);
  expect(screen.getByRole("table").getAttribute("aria-rowcount")).toBe("5001");
});

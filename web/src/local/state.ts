// What the pages show, as it stands in the address: documented keys (`filterConfig`, `pivotConfig.…`, `paginationConfig.…`,
// `sortConfig.…`), values as JSON, defaults left out. A link to a view is the view.

export type Operator = "==" | "!=" | ">" | "<" | ">=" | "<=" | "contains" | "!contains" | "between";
type FieldType = "text" | "number" | "date" | "date-range";

export interface Filter {
  field: string;
  operator: Operator;
  value: string;
  value2?: string;
  type: FieldType;
}

export interface FilterGroup {
  logic: "AND" | "OR";
  filters: Filter[];
}

export type Aggregator = "count" | "sum" | "avg" | "min" | "max" | "stderr" | "pass@k";

export interface LocalState {
  filterConfig: FilterGroup[];
  pivotConfig: {
    selectedRowFields: string[];
    selectedColumnFields: string[];
    selectedValueField: string;
    selectedAggregator: Aggregator;
    /** Of `pass@k`: rollouts that are drawn, and the value from which one passes. */
    k: number;
    threshold: number;
  };
  paginationConfig: { currentPage: number; pageSize: number };
  sortConfig: { sortField: string; sortDirection: "asc" | "desc" };
  compareConfig: {
    by: "invocation" | "model";
    left: string;
    right: string;
    show: "all" | "wins" | "losses" | "ties";
  };
}

const OPERATORS: readonly Operator[] = ["==", "!=", ">", "<", ">=", "<=", "contains", "!contains", "between"];
export const AGGREGATORS: readonly Aggregator[] = ["count", "sum", "avg", "min", "max", "stderr", "pass@k"];
export const PAGE_SIZES = [25, 50, 100, 250, 500, 1000];

export const DEFAULTS: LocalState = {
  filterConfig: [],
  pivotConfig: {
    selectedRowFields: ["$.eval_metadata.name"],
    selectedColumnFields: ["$.input_metadata.completion_params.model"],
    selectedValueField: "$.evaluation_result.agg_score",
    selectedAggregator: "avg",
    k: 1,
    threshold: 1,
  },
  paginationConfig: { currentPage: 1, pageSize: 25 },
  sortConfig: { sortField: "created_at", sortDirection: "desc" },
  compareConfig: { by: "invocation", left: "", right: "", show: "all" },
};

/** The state that a query stands for. What cannot be read counts as not given. */
export function readState(search: string): LocalState {
  const given = new Map<string, unknown>();
  for (const [key, text] of new URLSearchParams(search)) given.set(key, parsed(text));
  const part = <K extends keyof LocalState>(key: K) => {
    const whole = record(given.get(key));
    return (name: string) => given.get(`${key}.${name}`) ?? whole[name];
  };
  const pivot = part("pivotConfig");
  const pages = part("paginationConfig");
  const sort = part("sortConfig");
  const compare = part("compareConfig");
  const { pivotConfig, paginationConfig, sortConfig, compareConfig } = DEFAULTS;
  return {
    filterConfig: groups(given.get("filterConfig")),
    pivotConfig: {
      selectedRowFields: texts(pivot("selectedRowFields")) ?? pivotConfig.selectedRowFields,
      selectedColumnFields: texts(pivot("selectedColumnFields")) ?? pivotConfig.selectedColumnFields,
      selectedValueField: text(pivot("selectedValueField")) || pivotConfig.selectedValueField,
      selectedAggregator: oneOf(AGGREGATORS, pivot("selectedAggregator")) ?? pivotConfig.selectedAggregator,
      k: whole(pivot("k")) ?? pivotConfig.k,
      threshold: number(pivot("threshold")) ?? pivotConfig.threshold,
    },
    paginationConfig: {
      currentPage: whole(pages("currentPage")) ?? paginationConfig.currentPage,
      pageSize: Math.min(whole(pages("pageSize")) ?? paginationConfig.pageSize, 1000),
    },
    sortConfig: {
      sortField: text(sort("sortField")) || sortConfig.sortField,
      sortDirection: oneOf(["asc", "desc"] as const, sort("sortDirection")) ?? sortConfig.sortDirection,
    },
    compareConfig: {
      by: oneOf(["invocation", "model"] as const, compare("by")) ?? compareConfig.by,
      left: text(compare("left")) ?? "",
      right: text(compare("right")) ?? "",
      show: oneOf(["all", "wins", "losses", "ties"] as const, compare("show")) ?? compareConfig.show,
    },
  };
}

/** The query of a state, with its `?`; "" when all is as by default. */
export function writeState(state: Partial<LocalState>): string {
  const query = new URLSearchParams();
  const put = (key: string, value: unknown, usual: unknown) => {
    const written = JSON.stringify(value);
    if (written !== JSON.stringify(usual)) query.set(key, written);
  };
  put("filterConfig", state.filterConfig ?? DEFAULTS.filterConfig, DEFAULTS.filterConfig);
  for (const part of ["pivotConfig", "paginationConfig", "sortConfig", "compareConfig"] as const) {
    const usual = DEFAULTS[part] as Record<string, unknown>;
    for (const [name, value] of Object.entries(state[part] ?? {})) put(`${part}.${name}`, value, usual[name]);
  }
  const written = query.toString();
  return written ? `?${written}` : "";
}

/** The filters that restrict something: those with a field and a value. "" when there are none: what the server is sent. */
export function filterText(filterConfig: readonly FilterGroup[]): string {
  const filled = filterConfig
    .map((group) => ({ ...group, filters: group.filters.filter(isFilled) }))
    .filter((group) => group.filters.length > 0);
  return filled.length ? JSON.stringify(filled) : "";
}

function isFilled(filter: Filter): boolean {
  if (!filter.field || filter.value === "") return false;
  return filter.operator !== "between" || (filter.value2 ?? "") !== "";
}

/** The filters with "this field equals this value" added, to a group where all must match; a field that is there already is set anew. */
export function withEquals(
  filterConfig: readonly FilterGroup[],
  ...wanted: readonly { field: string; value: string; type?: FieldType }[]
): FilterGroup[] {
  const fields = new Set(wanted.map((one) => one.field));
  const added = wanted.map(
    ({ field, value, type }): Filter => ({ field, operator: "==", value, type: type ?? "text" }),
  );
  const at = filterConfig.findIndex((group) => group.logic === "AND");
  if (at < 0) return [...filterConfig, { logic: "AND", filters: added }];
  return filterConfig.map((group, place) =>
    place === at
      ? {
          ...group,
          filters: [
            ...group.filters.filter((filter) => !(filter.operator === "==" && fields.has(filter.field))),
            ...added,
          ],
        }
      : group,
  );
}

function groups(value: unknown): FilterGroup[] {
  if (!Array.isArray(value)) return [];
  return value.map(record).map((group) => ({
    logic: group.logic === "OR" ? "OR" : "AND",
    filters: (Array.isArray(group.filters) ? group.filters : []).map(record).map((filter) => ({
      field: text(filter.field) ?? "",
      operator: oneOf(OPERATORS, filter.operator) ?? "==",
      value: plain(filter.value),
      ...(filter.value2 === undefined || filter.value2 === null ? {} : { value2: plain(filter.value2) }),
      type: oneOf(["text", "number", "date", "date-range"] as const, filter.type) ?? "text",
    })),
  }));
}

function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function text(value: unknown): string | undefined {
  // An id that is all digits reads as a number from an address typed by hand.
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : undefined;
}

function plain(value: unknown): string {
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : "";
}

function texts(value: unknown): string[] | undefined {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return undefined;
  return value.filter((one): one is string => typeof one === "string" && one !== "");
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function whole(value: unknown): number | undefined {
  const found = number(value);
  return found !== undefined && Number.isInteger(found) && found >= 1 ? found : undefined;
}

function oneOf<T extends string>(choices: readonly T[], value: unknown): T | undefined {
  return choices.find((choice) => choice === value);
}

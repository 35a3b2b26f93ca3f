// The rollouts of an epoch or a step: filtered, sorted and paged by the server, opened by a click.
import { ArrowLeft, ArrowRight, Search } from "lucide-react";
import { useDeferredValue, useEffect, useState } from "react";
import { shortId } from "~/api/names";
import { type RftJob, useRollouts } from "~/api/reinforcementFineTuningJobs";
import type { RolloutSummary } from "~/api/rft";
import { Badge, Score } from "~/design/Badge";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Input, Select } from "~/design/Field";
import { change, count, figure } from "~/design/figures";
import { Empty, Failure } from "~/design/Panel";
import { Answer } from "./Answer";
import type { SearchProps } from "./JobPage";
import { PAGE_SIZE, rolloutQuery } from "./search";

export function RolloutTable({ job, search, onSearch }: SearchProps & { job: RftJob }) {
  const query = useRollouts(shortId(job.name), rolloutQuery(search));
  // A new key empties the fields of the filter, which keep what is typed until it settles.
  const [cleared, setCleared] = useState(0);
  const filtered = [search.min, search.max, search.valid, search.contains].some((one) => one !== undefined);
  const sort = search.sort
    ? { by: search.sort.replace(/^-/, ""), descending: search.sort.startsWith("-") }
    : null;
  if (query.error && !query.data)
    return (
      <Failure title="The rollouts could not be loaded" error={query.error} retry={() => query.refetch()} />
    );
  const total = Number(query.data?.totalSize ?? 0);
  return (
    <div className="flex flex-col gap-2">
      <DataTable
        label="Rollouts"
        name="rft-rollouts"
        columns={search.step === undefined ? COLUMNS : OF_ONE_STEP}
        rows={query.data?.rollouts}
        rowKey={(row) => row.rolloutId}
        sort={sort}
        onSort={(next) => onSearch({ sort: (next.descending ? "-" : "") + next.by, page: undefined })}
        onRowClick={(row) => onSearch({ rollout: row.rolloutId })}
        selected={search.rollout}
        busy={query.isPlaceholderData}
        toolbar={<Filters key={cleared} search={search} onSearch={onSearch} total={total} />}
        empty={
          filtered ? (
            <Empty
              title="No rollout passes the filter"
              action={
                <Button
                  onClick={() => {
                    onSearch({ min: undefined, max: undefined, valid: undefined, contains: undefined });
                    setCleared(cleared + 1);
                  }}
                >
                  Clear the filter
                </Button>
              }
            />
          ) : (
            <Empty title="No rollouts yet">They appear here as they are scored.</Empty>
          )
        }
      />
      <Pages
        page={search.page ?? 1}
        pages={Math.ceil(total / PAGE_SIZE)}
        onPage={(page) => onSearch({ page: page === 1 ? undefined : page })}
      />
    </div>
  );
}

function Filters({ search, onSearch, total }: SearchProps & { total: number }) {
  const [text, setText] = useState(search.contains ?? "");
  const settled = useDeferredValue(text);
  // biome-ignore lint/correctness/useExhaustiveDependencies: only what was typed asks the server
  useEffect(() => {
    if (settled === (search.contains ?? "")) return;
    const timer = setTimeout(() => onSearch({ contains: settled || undefined, page: undefined }), 250);
    return () => clearTimeout(timer);
  }, [settled]);
  const bound = (name: "min" | "max", label: string) => (
    <Input
      type="number"
      min={0}
      max={1}
      step={0.05}
      aria-label={label}
      placeholder={name}
      className="tabular w-[4.5rem]"
      defaultValue={search[name]}
      onChange={(event) =>
        onSearch({
          [name]: event.target.value === "" ? undefined : Number(event.target.value),
          page: undefined,
        })
      }
    />
  );
  return (
    <>
      <div className="flex items-center gap-1.5 text-xs text-ink-soft">
        <span>Score</span>
        {bound("min", "Lowest score")}
        <span>to</span>
        {bound("max", "Highest score")}
      </div>
      <Select
        aria-label="Valid"
        value={search.valid === undefined ? "" : String(search.valid)}
        onChange={(event) =>
          onSearch({
            valid: event.target.value === "" ? undefined : event.target.value === "true",
            page: undefined,
          })
        }
      >
        <option value="">Valid or not</option>
        <option value="true">Valid</option>
        <option value="false">Not valid</option>
      </Select>
      <div className="relative min-w-40">
        <Search size={13} aria-hidden="true" className="absolute top-2.5 left-2.5 text-ink-faint" />
        <Input
          type="search"
          aria-label="Text in reason, prompt or answer"
          placeholder="Reason, prompt, answer"
          className="w-full pl-7"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      <span className="tabular text-xs text-ink-soft" aria-live="polite">
        {count(total)} {total === 1 ? "rollout" : "rollouts"}
      </span>
    </>
  );
}

const COLUMNS: Column<RolloutSummary>[] = [
  { id: "step", header: "Step", sort: "step", align: "right", width: 64, cell: (row) => row.step },
  {
    id: "row",
    header: "Row",
    sort: "row_index",
    align: "right",
    width: 76,
    hint: "Row of the dataset, and which attempt at it",
    cell: (row) => (
      <>
        {row.rowIndex}
        <span className="text-ink-faint">.{row.k}</span>
      </>
    ),
  },
  {
    id: "prompt",
    header: "Messages",
    width: 190,
    cell: (row) => (
      <Clamped text={row.prompt ?? ""} none={row.prompt === null ? "not recorded" : "no messages"} />
    ),
  },
  {
    id: "score",
    header: "Total score",
    sort: "score",
    align: "right",
    width: 100,
    cell: (row) => <Score value={row.score} valid={row.isScoreValid} />,
  },
  {
    id: "valid",
    header: "Valid",
    sort: "is_score_valid",
    width: 84,
    cell: (row) => (row.isScoreValid ? <Badge tone="good">Yes</Badge> : <Badge tone="bad">No</Badge>),
  },
  {
    id: "reason",
    header: "Reason",
    sort: "reason",
    width: 175,
    cell: (row) => <Clamped text={row.reason} none="none" />,
  },
  {
    id: "answer",
    header: "Answer",
    width: 200,
    cell: (row) => <Answer text={row.answer} />,
  },
  { id: "metrics", header: "Evals", width: 165, cell: (row) => <Metrics metrics={row.metrics} /> },
  {
    id: "tokens",
    header: "Tokens",
    sort: "completion_tokens",
    align: "right",
    width: 84,
    cell: (row) => (
      <span title={row.truncated ? "Cut off at the longest completion" : undefined}>
        {count(row.completionTokens)}
        {row.truncated && <span className="text-fair"> cut</span>}
      </span>
    ),
  },
  {
    id: "advantage",
    header: "Advantage",
    sort: "advantage",
    align: "right",
    width: 100,
    hint: "What its tokens were weighted with; none where it was not trained on",
    cell: (row) =>
      row.advantage === null ? (
        <span className="text-ink-faint">none</span>
      ) : (
        <span
          className={
            row.advantage > 0 ? "font-mono text-good" : row.advantage < 0 ? "font-mono text-bad" : "font-mono"
          }
        >
          {change(row.advantage, 2)}
        </span>
      ),
  },
  { id: "turns", header: "Turns", align: "right", width: 70, hidden: true, cell: (row) => count(row.turns) },
];

/** One step is the same in all of its rows. */
const OF_ONE_STEP = COLUMNS.filter((column) => column.id !== "step");

function Clamped({ text, none }: { text: string; none: string }) {
  if (!text.trim()) return <span className="text-ink-faint">{none}</span>;
  return (
    <span title={text.slice(0, 600)} className="line-clamp-2 max-w-[26rem] break-words">
      {text}
    </span>
  );
}

/** The first two metrics of the evaluator; the rest as a number. */
function Metrics({ metrics }: { metrics: RolloutSummary["metrics"] }) {
  const all = Object.entries(metrics ?? {});
  if (!all.length) return <span className="text-ink-faint">none</span>;
  return (
    <dl
      className="grid grid-cols-[minmax(0,1fr)_auto] gap-x-3 text-xs"
      title={all.map(([name, value]) => `${name} ${figure(value)}`).join("\n")}
    >
      {all.slice(0, 2).map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="truncate text-ink-soft">{name}</dt>
          <dd className="tabular text-right font-mono">{figure(value)}</dd>
        </div>
      ))}
      {all.length > 2 && <dt className="text-ink-faint">and {all.length - 2} more</dt>}
    </dl>
  );
}

export function Pages(props: { page: number; pages: number; onPage: (page: number) => void }) {
  const { page, pages, onPage } = props;
  if (pages <= 1) return null;
  const near = [...new Set([1, page - 2, page - 1, page, page + 1, page + 2, pages])].filter(
    (one) => one >= 1 && one <= pages,
  );
  return (
    <nav aria-label="Pages" className="flex flex-wrap items-center justify-between gap-2">
      <Button small icon={<ArrowLeft size={13} />} disabled={page <= 1} onClick={() => onPage(page - 1)}>
        Previous
      </Button>
      <div className="flex flex-wrap items-center gap-1">
        {near.map((one, at) => (
          <span key={one} className="flex items-center gap-1">
            {at > 0 && one - (near[at - 1] as number) > 1 && <span className="text-ink-faint">…</span>}
            <button
              type="button"
              aria-current={one === page ? "page" : undefined}
              aria-label={`Page ${one}`}
              onClick={() => onPage(one)}
              className={`tabular h-7 min-w-7 rounded-md px-1.5 text-xs font-medium ${
                one === page ? "bg-accent-soft text-accent-text" : "text-ink-soft hover:bg-sunken"
              }`}
            >
              {one}
            </button>
          </span>
        ))}
      </div>
      <Button small disabled={page >= pages} onClick={() => onPage(page + 1)}>
        Next
        <ArrowRight size={13} />
      </Button>
    </nav>
  );
}

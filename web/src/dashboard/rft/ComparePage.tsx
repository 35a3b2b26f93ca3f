// Several RFT jobs beside each other: curves over each other, what differs in their options, what they took.
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { X } from "lucide-react";
import { useMemo } from "react";
import { useNewestJobs } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { useRftComparison } from "~/api/reinforcementFineTuningJobs";
import type { RftComparison } from "~/api/rft";
import { ResourceState, Score } from "~/design/Badge";
import { IconButton } from "~/design/Button";
import { Chart } from "~/design/Chart";
import { Select } from "~/design/Field";
import { count, figure } from "~/design/figures";
import { Empty, Loaded, Panel } from "~/design/Panel";
import { align } from "~/design/series";
import { span, Time } from "~/design/Time";
import { words } from "./OptionsTab";
import { SMOOTHINGS } from "./search";
import { costText } from "./Tiles";

const MOST = 8;

export function ComparePage() {
  const search = useSearch({ strict: false }) as { job?: unknown; smoothing?: unknown };
  const navigate = useNavigate();
  const ids = [
    ...new Set(
      (Array.isArray(search.job) ? search.job : [search.job])
        .filter(Boolean)
        .map((one) => shortId(String(one))),
    ),
  ].slice(0, MOST);
  const smoothing = SMOOTHINGS.find((one) => one === Number(search.smoothing)) ?? 0;
  const comparison = useRftComparison(ids);
  const show = (change: { job?: string[]; smoothing?: number }) =>
    navigate({
      to: ".",
      search: { job: ids, smoothing: smoothing || undefined, ...change },
      replace: true,
    } as never);
  return (
    <div className="flex flex-col gap-4">
      <header className="flex flex-wrap items-end justify-between gap-3">
        <div>
          <nav aria-label="Path" className="text-xs text-ink-faint">
            <Link to={"/dashboard/fine-tuning" as string} className="hover:text-ink hover:underline">
              Fine-tuning
            </Link>{" "}
            / compare
          </nav>
          <h1 className="text-xl font-semibold">Compare jobs</h1>
        </div>
        <Select
          aria-label="Smoothing"
          value={smoothing}
          onChange={(event) => show({ smoothing: Number(event.target.value) || undefined })}
        >
          {SMOOTHINGS.map((one) => (
            <option key={one} value={one}>
              {one ? `Smoothing: EMA (${one})` : "Smoothing: none"}
            </option>
          ))}
        </Select>
      </header>
      <Picked ids={ids} onChange={(job) => show({ job })} />
      {ids.length < 2 ? (
        <Panel>
          <Empty title="Pick at least two jobs">
            Their reward curves, options, time and cost are put beside each other here.
          </Empty>
        </Panel>
      ) : (
        <Loaded query={comparison} what="The comparison" lines={10}>
          {(data) => <Compared data={data} smoothing={smoothing} />}
        </Loaded>
      )}
    </div>
  );
}

function Picked({ ids, onChange }: { ids: string[]; onChange: (ids: string[]) => void }) {
  const jobs = useNewestJobs(200);
  const others = (jobs.data ?? []).filter((job) => job.kind === "rft" && !ids.includes(shortId(job.name)));
  return (
    <div className="flex flex-wrap items-center gap-2">
      {ids.map((id, at) => (
        <span key={id} className="inline-flex items-center gap-1.5 rounded-md border bg-surface pl-2.5">
          <span
            aria-hidden="true"
            className="size-2.5 rounded-full"
            style={{ background: `var(--series-${at + 1})` }}
          />
          <Link
            to={`/dashboard/fine-tuning/reinforcement/${id}` as string}
            className="text-[13px] font-medium hover:underline"
          >
            {nameOf(id, jobs.data)}
          </Link>
          <IconButton label={`Leave out ${id}`} onClick={() => onChange(ids.filter((one) => one !== id))}>
            <X size={13} />
          </IconButton>
        </span>
      ))}
      {ids.length < MOST && (
        <Select
          aria-label="Add a job"
          value=""
          onChange={(event) => event.target.value && onChange([...ids, event.target.value])}
        >
          <option value="">{others.length ? "Add a job…" : "No other RFT jobs"}</option>
          {others.map((job) => (
            <option key={job.name} value={shortId(job.name)}>
              {job.displayName ? `${job.displayName} (${shortId(job.name)})` : shortId(job.name)}
            </option>
          ))}
        </Select>
      )}
    </div>
  );
}

function nameOf(id: string, jobs: { name: string; displayName?: string }[] | undefined): string {
  return jobs?.find((job) => shortId(job.name) === id)?.displayName || id;
}

function Compared({ data, smoothing }: { data: RftComparison; smoothing: number }) {
  const names = data.jobs.map(({ job }) => job.displayName || shortId(job.name));
  const labels = names.map((name, at) =>
    names.indexOf(name) === at ? name : `${name} (${shortId(data.jobs[at]?.job.name)})`,
  );
  const curves = useMemo(
    () =>
      align(
        data.jobs.map(({ curve }) => ({
          x: curve.map((one) => one.step),
          values: curve.map((one) => one.meanScore),
        })),
      ),
    [data],
  );
  const heldOut = useMemo(() => {
    const of = (field: "score" | "low" | "high") =>
      align(
        data.jobs.map((job) => ({
          x: job.heldOut.map((one) => one.step),
          values: job.heldOut.map((one) => one[field]),
        })),
      );
    return { score: of("score"), low: of("low"), high: of("high") };
  }, [data]);
  const colour = (at: number) => ((at % 8) + 1) as 1;
  return (
    <>
      <Panel title="Mean reward">
        <Chart
          label="Mean reward of the jobs"
          x={curves.x}
          series={labels.map((label, at) => ({ label, values: curves.values[at] ?? [], colour: colour(at) }))}
          smoothing={smoothing}
          height={300}
        />
      </Panel>
      {heldOut.score.x.length > 0 && (
        <Panel title="Held-out score, with 95 % intervals">
          <Chart
            label="Held-out score of the jobs"
            x={heldOut.score.x}
            series={labels.map((label, at) => ({
              label,
              values: heldOut.score.values[at] ?? [],
              band: { low: heldOut.low.values[at] ?? [], high: heldOut.high.values[at] ?? [] },
              colour: colour(at),
              points: true,
              exact: true,
            }))}
            height={240}
          />
        </Panel>
      )}
      <Figures data={data} labels={labels} />
    </>
  );
}

/** What each took and came to, then the options that differ. */
function Figures({ data, labels }: { data: RftComparison; labels: string[] }) {
  const { jobs } = data;
  const results: [string, React.ReactNode[]][] = [
    ["State", jobs.map(({ job }) => <ResourceState key={job.name} state={job.state} />)],
    [
      "Last mean reward",
      jobs.map(({ job, curve }) => <Score key={job.name} value={curve.at(-1)?.meanScore} />),
    ],
    ["Best held-out score", jobs.map(({ job, heldOut }) => <Score key={job.name} value={best(heldOut)} />)],
    ["Steps", jobs.map(({ curve }) => count(curve.length))],
    ["Time", jobs.map(({ seconds }) => (seconds === null ? "unknown" : span(seconds)))],
    ["Tokens sampled", jobs.map(({ sampledTokens }) => count(sampledTokens))],
    ["Tokens trained", jobs.map(({ trainedTokens }) => count(trainedTokens))],
    ["Cost", jobs.map(({ cost }) => (cost ? costText(cost) : "no prices set"))],
    ["Created", jobs.map(({ job }) => <Time key={job.name} at={job.createTime} />)],
  ];
  const options: [string, React.ReactNode[]][] = data.differences.map(({ field, values }) => [
    field.split(".").map(words).join(" / "),
    values.map(shown),
  ]);
  return (
    <Panel title="Differences" flush>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard */}
      <section className="overflow-x-auto" aria-label="Differences of the jobs" tabIndex={0}>
        <table className="w-full min-w-max text-[13px]">
          <thead>
            <tr className="bg-raised text-left">
              <th scope="col" className="px-4 py-2 font-medium text-ink-faint">
                <span className="sr-only">What</span>
              </th>
              {labels.map((label, at) => (
                <th key={label} scope="col" className="px-4 py-2 font-semibold">
                  <span className="flex items-center gap-1.5">
                    <span
                      aria-hidden="true"
                      className="size-2.5 rounded-full"
                      style={{ background: `var(--series-${(at % 8) + 1})` }}
                    />
                    {label}
                  </span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            <Rows rows={results} />
            <tr className="border-t bg-raised">
              <th
                scope="rowgroup"
                colSpan={labels.length + 1}
                className="px-4 py-1.5 text-left text-xs font-medium text-ink-faint"
              >
                {options.length ? "Options that differ" : "All options are the same"}
              </th>
            </tr>
            <Rows rows={options} />
          </tbody>
        </table>
      </section>
    </Panel>
  );
}

function Rows({ rows }: { rows: [string, React.ReactNode[]][] }) {
  return rows.map(([name, values]) => (
    <tr key={name} className="border-t">
      <th scope="row" className="px-4 py-1.5 text-left font-normal text-ink-soft">
        {name}
      </th>
      {values.map((value, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a column is a job
        <td key={at} className="tabular max-w-80 px-4 py-1.5 break-words">
          {value}
        </td>
      ))}
    </tr>
  ));
}

function best(heldOut: RftComparison["jobs"][number]["heldOut"]): number | null {
  const scores = heldOut.flatMap((one) => (one.score === null ? [] : [one.score]));
  return scores.length ? Math.max(...scores) : null;
}

function shown(value: unknown): React.ReactNode {
  if (value === null || value === undefined) return <span className="text-ink-faint">none</span>;
  if (typeof value === "number") return figure(value);
  if (typeof value === "string") return /^accounts\//.test(value) ? shortId(value) : value;
  return typeof value === "boolean" ? (value ? "yes" : "no") : JSON.stringify(value);
}

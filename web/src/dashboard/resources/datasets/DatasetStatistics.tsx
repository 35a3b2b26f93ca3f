// Figures of a dataset: lengths, roles, duplicates, and which fields the rows have.
import { type DatasetStatistics, useDatasetStatistics } from "~/api/datasets";
import { count, figure, percent } from "~/design/figures";
import { Loaded, Panel, Tile } from "~/design/Panel";

export function DatasetStatisticsView({ id }: { id: string }) {
  const statistics = useDatasetStatistics(id, true);
  return (
    <Loaded query={statistics} what="The statistics" lines={8}>
      {(data) => <Figures data={data} />}
    </Loaded>
  );
}

function Figures({ data }: { data: DatasetStatistics }) {
  const share = (rows: number) => (data.rows ? percent(rows / data.rows) : "none");
  return (
    <div className="space-y-4">
      <div className="grid grid-cols-2 gap-3 md:grid-cols-3 xl:grid-cols-6">
        <Tile
          label="Messages a row"
          value={figure(data.messages.mean)}
          hint={`${data.messages.min} to ${data.messages.max}`}
        />
        <Tile label="Median length" value={count(data.characters.p50)} hint="characters" />
        <Tile label="95th percentile" value={count(data.characters.p95)} hint="characters" />
        <Tile label="Longest row" value={count(data.characters.max)} hint="characters" />
        <Tile label="With tools" value={count(data.withTools)} hint={share(data.withTools)} />
        <Tile
          label="Duplicates"
          value={<span className={data.duplicates ? "text-fair" : undefined}>{count(data.duplicates)}</span>}
          hint={share(data.duplicates)}
        />
      </div>
      <div className="grid gap-4 lg:grid-cols-2">
        <Panel title="Length of the rows, characters">
          <Histogram bins={data.histogram} />
        </Panel>
        <Panel title="Messages by role">
          <Bars
            entries={Object.entries(data.roles).map(([role, messages]) => [role, messages])}
            unit="messages"
          />
          <p className="mt-3 text-xs text-ink-soft">
            {count(data.withSystem)} of {count(data.rows)} rows begin with a system message.
          </p>
        </Panel>
      </div>
      <Panel title="Fields of the rows">
        <Bars
          entries={Object.entries(data.fields).sort(([, a], [, b]) => b - a)}
          unit="rows"
          most={data.rows}
          mono
        />
      </Panel>
    </div>
  );
}

function Histogram({ bins }: { bins: DatasetStatistics["histogram"] }) {
  const most = Math.max(1, ...bins.map((bin) => bin.rows));
  if (bins.length === 0) return <p className="text-ink-faint">No rows.</p>;
  const summary = bins.map((bin) => `${count(bin.from)} to ${count(bin.to)}: ${count(bin.rows)}`).join("; ");
  return (
    <figure>
      <div
        className="flex h-36 items-end gap-px border-b"
        role="img"
        aria-label={`Rows by length. ${summary}`}
      >
        {bins.map((bin) => (
          <div
            key={bin.from}
            title={`${count(bin.from)} to ${count(bin.to)} characters: ${count(bin.rows)} rows`}
            className="flex h-full flex-1 items-end hover:bg-sunken"
          >
            <div
              className="w-full rounded-t-sm bg-accent"
              style={{ height: bin.rows ? `max(2px, ${(100 * bin.rows) / most}%)` : 0 }}
            />
          </div>
        ))}
      </div>
      <figcaption className="tabular mt-1 flex justify-between text-xs text-ink-faint">
        <span>{count(bins[0]?.from)}</span>
        <span>{count(bins.at(-1)?.to)}</span>
      </figcaption>
    </figure>
  );
}

function Bars(props: {
  entries: readonly (readonly [string, number])[];
  unit: string;
  most?: number;
  mono?: boolean;
}) {
  const most = props.most ?? Math.max(1, ...props.entries.map(([, value]) => value));
  return (
    <dl className="space-y-1.5">
      {props.entries.map(([name, value]) => (
        <div key={name} className="grid grid-cols-[minmax(6rem,14rem)_minmax(0,1fr)_auto] items-center gap-3">
          <dt className={props.mono ? "truncate font-mono text-xs" : "truncate"} title={name}>
            {name}
          </dt>
          <dd aria-hidden="true" className="h-2 rounded-full bg-sunken">
            <div className="h-2 rounded-full bg-accent" style={{ width: `${(100 * value) / most}%` }} />
          </dd>
          <dd className="tabular text-right text-xs text-ink-soft">
            {count(value)} {props.unit}
          </dd>
        </div>
      ))}
    </dl>
  );
}

// The tabs of a job: Summary, its epochs in a strip that scrolls, then audit, logs and options.
import { clsx } from "clsx";
import { ChevronLeft, ChevronRight } from "lucide-react";
import { Children, type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RftMetrics } from "~/api/rft";
import { IconButton } from "~/design/Button";
import { chunksOf } from "./curated";
import type { SearchProps } from "./JobPage";
import type { JobTab } from "./search";

/** What only a job that trains has. */
const OF_TRAINING: readonly JobTab[] = ["epoch", "audit"];

/** The tab that is shown: of a preflight, none of what it has not. */
export function tabOf(job: RftJob, tab: JobTab | undefined): JobTab {
  return !tab || (job.preflightOnly && OF_TRAINING.includes(tab)) ? "summary" : tab;
}

const OTHERS: [JobTab, string][] = [
  ["audit", "Audit"],
  ["logs", "Logs"],
  ["options", "Options"],
];

export function JobTabs(props: SearchProps & { job: RftJob; metrics: RftMetrics | undefined }) {
  const { search, onSearch } = props;
  const tab = tabOf(props.job, search.tab);
  const epochs = epochsOf(props.job, props.metrics);
  const current = search.epoch ?? 0;
  return (
    <div
      role="tablist"
      aria-label="Parts of the job"
      onKeyDown={moveFocus}
      className="flex min-w-0 items-center gap-1 rounded-lg border bg-raised p-1 max-md:flex-wrap"
    >
      <One active={tab === "summary"} onChoose={() => onSearch({ tab: "summary", ...NOTHING_OPEN })}>
        Summary
      </One>
      <Strip at={tab === "epoch" ? current : undefined}>
        {epochs.map((epoch) => (
          <One
            key={epoch}
            active={tab === "epoch" && current === epoch}
            onChoose={() => onSearch({ tab: "epoch", epoch, ...NOTHING_OPEN })}
          >
            Epoch {epoch}
          </One>
        ))}
      </Strip>
      {OTHERS.filter(([id]) => tabOf(props.job, id) === id).map(([id, label]) => (
        <One key={id} active={tab === id} onChoose={() => onSearch({ tab: id, ...NOTHING_OPEN })}>
          {label}
        </One>
      ))}
    </div>
  );
}

const NOTHING_OPEN = { step: undefined, page: undefined, rollout: undefined, kind: undefined };

/** Epochs that have begun; the first one always, but of a preflight, which has none. */
function epochsOf(job: RftJob, metrics: RftMetrics | undefined): number[] {
  if (job.preflightOnly) return [];
  const seen = metrics ? chunksOf(metrics).map((event) => Number(event.epoch ?? 0)) : [];
  const last = seen.reduce((most, epoch) => Math.max(most, epoch), job.run?.epoch ?? 0);
  const most = Math.max(0, Math.ceil(job.trainingConfig.epochs ?? 1) - 1);
  return Array.from({ length: Math.min(last, Math.max(most, 0)) + 1 }, (_, epoch) => epoch);
}

function One(props: { active: boolean; onChoose: () => void; children: ReactNode }) {
  return (
    <button
      type="button"
      role="tab"
      aria-selected={props.active}
      tabIndex={props.active ? 0 : -1}
      onClick={props.onChoose}
      className={clsx(
        "shrink-0 rounded-md px-3 py-1.5 text-[13px] font-medium whitespace-nowrap",
        props.active
          ? "border bg-surface text-ink shadow-sm"
          : "border border-transparent text-ink-soft hover:text-ink",
      )}
    >
      {props.children}
    </button>
  );
}

/** What it holds scrolls sideways; where that is needed, arrows do it too. */
export function Strip({ at, children }: { at: number | string | undefined; children: ReactNode }) {
  const box = useRef<HTMLDivElement>(null);
  const [more, setMore] = useState({ left: false, right: false });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () =>
      setMore({
        left: element.scrollLeft > 1,
        right: element.scrollLeft + element.clientWidth < element.scrollWidth - 1,
      });
    look();
    const watch = new ResizeObserver(look);
    watch.observe(element);
    const changes = new MutationObserver(look);
    changes.observe(element, { childList: true });
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      watch.disconnect();
      changes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what was chosen comes into sight, also when it was not there at first
  useEffect(() => {
    const chosen = box.current?.querySelector<HTMLElement>('[aria-selected="true"], [aria-current="step"]');
    if (box.current && chosen)
      box.current.scrollLeft = chosen.offsetLeft - (box.current.clientWidth - chosen.offsetWidth) / 2;
  }, [at, Children.count(children)]);
  const scroll = (direction: number) =>
    box.current?.scrollBy({ left: direction * box.current.clientWidth * 0.8, behavior: "smooth" });
  const arrows = more.left || more.right;
  return (
    <div className="flex min-w-0 items-center">
      {arrows && (
        <IconButton label="Earlier" disabled={!more.left} onClick={() => scroll(-1)} tabIndex={-1}>
          <ChevronLeft size={15} />
        </IconButton>
      )}
      <div
        ref={box}
        role="presentation"
        className="relative flex min-w-0 items-center overflow-x-auto [scrollbar-width:none]"
      >
        {children}
      </div>
      {arrows && (
        <IconButton label="Later" disabled={!more.right} onClick={() => scroll(1)} tabIndex={-1}>
          <ChevronRight size={15} />
        </IconButton>
      )}
    </div>
  );
}

function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  const tabs = [...event.currentTarget.querySelectorAll<HTMLElement>('[role="tab"]')];
  const at = tabs.indexOf(event.target as HTMLElement);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = tabs[(at + step + tabs.length) % tabs.length];
  next?.focus();
  next?.click();
}

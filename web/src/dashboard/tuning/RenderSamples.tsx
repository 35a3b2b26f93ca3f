// What the model was trained on, as it was rendered: each token, with those that count marked.
import { clsx } from "clsx";
import { ChevronLeft, ChevronRight } from "lucide-react";
import { useMemo } from "react";
import { type RenderSample, type TuningJob, type TuningKind, useRenderSamples } from "~/api/tuningJobs";
import { IconButton } from "~/design/Button";
import { count } from "~/design/figures";
import { Empty, Loaded, Panel } from "~/design/Panel";
import { runsOf } from "./masks";

export default function RenderSamples(props: {
  kind: TuningKind;
  id: string;
  job: TuningJob;
  at: number;
  onAt: (at: number) => void;
}) {
  const samples = useRenderSamples(props.kind, props.id, props.job);
  if (!props.job.renderSamplesSignedUrl)
    return (
      <Panel>
        <Empty title="No sample yet">The first 20 samples are here once the data is prepared.</Empty>
      </Panel>
    );
  return (
    <Loaded query={samples} what="The samples">
      {(all) => {
        const at = Math.min(props.at, all.length - 1);
        const sample = all[at];
        if (!sample) return <Empty title="No sample">The data has no row with a token to train on.</Empty>;
        return (
          <Panel
            title={`Sample ${at + 1} of the first ${all.length}`}
            actions={
              <>
                <IconButton label="Sample before" disabled={at === 0} onClick={() => props.onAt(at - 1)}>
                  <ChevronLeft size={16} />
                </IconButton>
                <IconButton
                  label="Next sample"
                  disabled={at === all.length - 1}
                  onClick={() => props.onAt(at + 1)}
                >
                  <ChevronRight size={16} />
                </IconButton>
              </>
            }
          >
            <Tokens sample={sample} />
          </Panel>
        );
      }}
    </Loaded>
  );
}

function Tokens({ sample }: { sample: RenderSample }) {
  const runs = useMemo(() => runsOf(sample.decoded_tokens, sample.token_weights), [sample]);
  const trained = sample.token_weights.filter((weight) => weight !== 0).length;
  return (
    <>
      <p className="mb-3 flex flex-wrap gap-x-4 gap-y-1 text-xs text-ink-soft">
        <span>line {count(sample.source_jsonl_line_number)} of the dataset</span>
        <span className="tabular">
          {count(sample.token_ids.length)} tokens, {count(trained)} trained on
        </span>
        <span className="flex items-center gap-1.5">
          <span
            aria-hidden="true"
            className="inline-block h-3.5 w-5 rounded-sm border-b-2 border-accent bg-accent-soft"
          />
          counts in the loss
        </span>
      </p>
      <p className="font-mono text-[13px] leading-7 whitespace-pre-wrap [overflow-wrap:anywhere]">
        {runs.map((run, place) => (
          <span
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens are known by their place
            key={place}
            title={run.weight === 0 ? "given: not trained on" : `trained on, weight ${run.weight}`}
            className={clsx(
              run.weight === 0 ? "text-ink-soft" : "border-b-2 border-accent bg-accent-soft text-ink",
            )}
          >
            {run.tokens.map((token, number) => (
              <span
                // biome-ignore lint/suspicious/noArrayIndexKey: as above
                key={number}
                className="border-r border-line"
              >
                {token.replaceAll("\n", "⏎\n")}
              </span>
            ))}
          </span>
        ))}
      </p>
    </>
  );
}

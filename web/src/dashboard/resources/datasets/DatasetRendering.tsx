// Rows exactly as a job would render them for a base model, with what is trained (loss weight above 0) shaded.
import { clsx } from "clsx";
import { useState } from "react";
import { type Rendering, type Segment, useRenderPreview } from "~/api/datasets";
import { useBaseModels, useModels } from "~/api/models";
import { Button } from "~/design/Button";
import { Field, Select } from "~/design/Field";
import { count } from "~/design/figures";
import { Failure, Loaded, Skeleton } from "~/design/Panel";
import { modelLabel } from "../models/names";

export function DatasetRendering({ id }: { id: string }) {
  const bases = useBaseModels();
  const own = useModels();
  const choices = [
    ...(bases.data ?? []),
    ...(own.data ?? []).filter((model) => model.kind === "HF_BASE_MODEL"),
  ];
  const [chosen, setChosen] = useState("");
  const [tokens, setTokens] = useState<string[]>([""]);
  const [mode, setMode] = useState("");
  const base = chosen || choices[0]?.name || "";
  const preview = useRenderPreview(id, base, tokens[tokens.length - 1] ?? "");
  const modes = preview.data?.thinkingTraceHistoryModeOptions ?? [];
  const shownMode = mode || modes.find((one) => one.default)?.mode || modes[0]?.mode || "";
  return (
    <div className="space-y-4">
      <div className="flex flex-wrap items-end gap-4">
        <Field label="Base model" className="w-80 max-w-full">
          {(ids) => (
            <Select
              {...ids}
              value={base}
              onChange={(event) => {
                setChosen(event.target.value);
                setTokens([""]);
                setMode("");
              }}
            >
              {choices.map((model) => (
                <option key={model.name} value={model.name}>
                  {modelLabel(model)}
                </option>
              ))}
            </Select>
          )}
        </Field>
        {modes.length > 1 && (
          <Field label="Thinking traces" className="w-56">
            {(ids) => (
              <Select {...ids} value={shownMode} onChange={(event) => setMode(event.target.value)}>
                {modes.map((one) => (
                  <option key={one.mode} value={one.mode}>
                    {one.mode.replace("THINKING_TRACE_HISTORY_MODE_", "").toLowerCase()}
                    {one.default ? " (default)" : ""}
                  </option>
                ))}
              </Select>
            )}
          </Field>
        )}
        <Legend />
      </div>
      {base === "" ? (
        bases.error ? (
          <Failure title="The base models could not be loaded" error={bases.error} />
        ) : (
          <Skeleton />
        )
      ) : (
        <Loaded query={preview} what="The rendering" lines={10}>
          {(data) => (
            <div className={clsx("space-y-3", preview.isPlaceholderData && "opacity-60")}>
              {data.examples.map((example) => (
                <Example
                  key={example.sourceJsonlRowIndex}
                  row={Number(example.sourceJsonlRowIndex) + 1}
                  rendering={
                    example.renderings.find((one) => one.thinkingTraceHistoryMode === shownMode) ??
                    example.renderings[0]
                  }
                  error={example.error}
                />
              ))}
              <div className="flex items-center justify-between gap-3 text-xs text-ink-soft">
                <span className="tabular">{count(Number(data.totalCount))} rows in all</span>
                <div className="flex gap-2">
                  <Button small disabled={tokens.length === 1} onClick={() => setTokens(tokens.slice(0, -1))}>
                    Previous
                  </Button>
                  <Button
                    small
                    disabled={!data.nextPageToken || preview.isPlaceholderData}
                    onClick={() => setTokens([...tokens, data.nextPageToken])}
                  >
                    Next
                  </Button>
                </div>
              </div>
            </div>
          )}
        </Loaded>
      )}
    </div>
  );
}

function Legend() {
  return (
    <p className="flex flex-wrap items-center gap-x-4 gap-y-1 pb-6 text-xs text-ink-soft">
      <span className="flex items-center gap-1.5">
        <span className="rounded bg-good-soft px-1.5 font-mono text-good">abc</span> trained
      </span>
      <span className="flex items-center gap-1.5">
        <span className="rounded bg-sunken px-1.5 font-mono">abc</span> shown, not trained
      </span>
    </p>
  );
}

function Example({ row, rendering, error }: { row: number; rendering?: Rendering; error?: string }) {
  const problem = rendering?.error ?? error;
  return (
    <article className="overflow-hidden rounded-lg border bg-surface" aria-label={`Row ${row}`}>
      <header className="flex items-center justify-between gap-2 border-b bg-raised px-3 py-1.5 text-xs text-ink-soft">
        <span className="tabular font-medium">Row {row}</span>
        {rendering && <Sums datums={rendering.renderedDatums} />}
      </header>
      {problem && <p className="bg-bad-soft px-3 py-2 text-bad">Cannot be trained: {problem}</p>}
      {rendering?.renderedDatums.map((datum) => (
        <pre
          key={datum.datumIndex}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
          tabIndex={0}
          className="max-h-96 overflow-auto border-b p-3 font-mono text-xs leading-5 break-words whitespace-pre-wrap last:border-b-0"
        >
          {datum.segments.map((segment, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: segments are known by their place
            <Piece key={place} segment={segment} />
          ))}
        </pre>
      ))}
    </article>
  );
}

function Piece({ segment }: { segment: Segment }) {
  const trained = segment.lossWeight !== 0;
  return (
    <span
      title={`Loss weight ${segment.lossWeight}`}
      className={
        trained
          ? segment.lossWeight < 0
            ? "bg-bad-soft text-bad"
            : "rounded-sm bg-good-soft text-good"
          : "text-ink-soft"
      }
    >
      {segment.text}
    </span>
  );
}

function Sums({ datums }: { datums: Rendering["renderedDatums"] }) {
  const characters = (trained: boolean) =>
    datums
      .flatMap((datum) => datum.segments)
      .reduce((sum, part) => sum + (!trained || part.lossWeight !== 0 ? part.text.length : 0), 0);
  return (
    <span className="tabular">
      {datums.length > 1 && `${datums.length} samples · `}
      {count(characters(true))} of {count(characters(false))} characters trained
    </span>
  );
}

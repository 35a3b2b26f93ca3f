// Rows of a dataset, a page at a time: each opens as a conversation, with everything else that the row holds.
import { useState } from "react";
import { type DatasetRow, useDatasetRows } from "~/api/datasets";
import { type ChatMessage, Conversation } from "~/conversation/Conversation";
import { Json } from "~/conversation/Json";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Input } from "~/design/Field";
import { count } from "~/design/figures";
import { Empty, Failure } from "~/design/Panel";
import { said } from "./rows";

const PAGE = 25;

const COLUMNS: Column<DatasetRow>[] = [
  {
    id: "index",
    header: "Row",
    width: 64,
    align: "right",
    cell: ({ index }) => <span className="text-ink-faint">{index + 1}</span>,
  },
  {
    id: "prompt",
    header: "Prompt",
    width: 420,
    cell: ({ row }) => <div className="line-clamp-2 max-w-[34rem] break-words">{said(row).prompt}</div>,
  },
  {
    id: "answer",
    header: "Answer",
    width: 260,
    cell: ({ row }) => (
      <div className="line-clamp-2 max-w-[24rem] font-mono text-xs break-words text-ink-soft">
        {said(row).answer}
      </div>
    ),
  },
  {
    id: "messages",
    header: "Messages",
    width: 90,
    align: "right",
    cell: ({ row }) => count(said(row).messages),
  },
];

export function DatasetRows({ id }: { id: string }) {
  const [tokens, setTokens] = useState<string[]>([""]);
  const [contains, setContains] = useState("");
  const [wanted, setWanted] = useState("");
  const pageToken = tokens[tokens.length - 1] ?? "";
  const rows = useDatasetRows(id, { pageSize: PAGE, pageToken, contains });
  const first = (tokens.length - 1) * PAGE;
  const shown = rows.data?.rows.length ?? 0;
  const total = Number(rows.data?.totalSize ?? 0);
  if (rows.error && !rows.data)
    return <Failure title="The rows could not be loaded" error={rows.error} retry={() => rows.refetch()} />;
  return (
    <div className="space-y-3">
      <DataTable
        label="Rows"
        columns={COLUMNS}
        rows={rows.data?.rows}
        rowKey={(row) => String(row.index)}
        busy={rows.isPlaceholderData}
        expand={(row) => <RowContent row={row.row} />}
        empty={
          <Empty title={contains ? "No row contains that" : "No rows"}>
            {contains && "Search looks at the whole text of each row, exactly as it is written."}
          </Empty>
        }
        toolbar={
          <form
            className="flex flex-wrap items-center gap-2"
            onSubmit={(event) => {
              event.preventDefault();
              setTokens([""]);
              setContains(wanted);
            }}
          >
            <Input
              type="search"
              aria-label="Search the rows"
              placeholder="Search the rows"
              value={wanted}
              onChange={(event) => {
                setWanted(event.target.value);
                if (event.target.value === "") {
                  setTokens([""]);
                  setContains("");
                }
              }}
              className="w-56"
            />
            <Button small type="submit">
              Search
            </Button>
          </form>
        }
      />
      <div className="flex items-center justify-between gap-3 text-xs text-ink-soft">
        <span className="tabular" role="status">
          {shown ? `Rows ${count(first + 1)} to ${count(first + shown)} of ${count(total)}` : ""}
        </span>
        <div className="flex gap-2">
          <Button small disabled={tokens.length === 1} onClick={() => setTokens(tokens.slice(0, -1))}>
            Previous
          </Button>
          <Button
            small
            disabled={!rows.data?.nextPageToken || rows.isPlaceholderData}
            onClick={() => setTokens([...tokens, rows.data?.nextPageToken ?? ""])}
          >
            Next
          </Button>
        </div>
      </div>
    </div>
  );
}

export function RowContent({ row }: { row: Record<string, unknown> }) {
  const { messages, ...rest } = row;
  const pair = row.input as { messages?: ChatMessage[] } | undefined;
  return (
    <div className="space-y-4 p-4">
      {Array.isArray(messages) && <Conversation messages={messages as ChatMessage[]} />}
      {pair?.messages && (
        <>
          <Conversation messages={pair.messages} />
          <div className="grid gap-4 lg:grid-cols-2">
            {(["preferred_output", "non_preferred_output"] as const).map((side) => (
              <div key={side} className="min-w-0">
                <p className="mb-1 text-xs font-semibold text-ink-soft">
                  {side === "preferred_output" ? "Preferred" : "Not preferred"}
                </p>
                <Conversation messages={(row[side] as ChatMessage[] | undefined) ?? []} />
              </div>
            ))}
          </div>
        </>
      )}
      {Object.keys(rest).length > 0 && !pair && (
        <div>
          <p className="mb-1 text-xs font-semibold text-ink-soft">Other fields</p>
          <Json value={rest} />
        </div>
      )}
    </div>
  );
}

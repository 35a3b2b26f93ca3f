// Sessions of the Agent: all of them, and a way to start one in words.
import { Link, useNavigate } from "@tanstack/react-router";
import { Bot } from "lucide-react";
import { useState } from "react";
import { useDatasets } from "~/api/datasets";
import { shortId } from "~/api/names";
import { type AgentSession, useSessions, useStartSession } from "~/api/sessions";
import { ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { DataTable } from "~/design/DataTable";
import { Field, Select, TextArea } from "~/design/Field";
import { Empty, Failure, Panel } from "~/design/Panel";
import { span, Time } from "~/design/Time";
import { useMayChange } from "../session";
import { phaseTitle } from "./phases";

const EXAMPLES = [
  "Run SFT on {dataset} across tiny-math-v1 with LoRA ranks 8 and 16, 2 epochs. Generate an evaluator for me.",
  "Run SFT on {dataset} with tiny-math-v1, learning rates 2e-3 and 1e-3, compare by validation loss, don't deploy.",
];

export function SessionsPage() {
  const sessions = useSessions();
  const navigate = useNavigate();
  const mayChange = useMayChange();
  return (
    <div className="mx-auto max-w-6xl space-y-5">
      <title>Agent · Tunesmith</title>
      <header>
        <h1 className="text-2xl font-semibold">Agent</h1>
        <p className="max-w-prose text-ink-soft">
          Say what you want in words. The Agent inspects the data, plans and prices a sweep, and waits for you
          before it trains and before it promotes.
        </p>
      </header>
      {mayChange && <Start />}
      {sessions.error ? (
        <Failure
          title="The sessions could not be loaded"
          error={sessions.error}
          retry={() => sessions.refetch()}
        />
      ) : (
        <DataTable<AgentSession>
          label="Sessions"
          rows={sessions.data}
          rowKey={(session) => session.name}
          onRowClick={(session) => navigate({ href: `/dashboard/sessions/${shortId(session.name)}` })}
          empty={
            <Empty title="No session yet" picture={<Bot size={30} />}>
              A session takes one instruction to a deployed model in seven phases.
            </Empty>
          }
          columns={[
            {
              id: "name",
              header: "Session",
              width: 340,
              value: (session) => session.displayName || shortId(session.name),
              cell: (session) => (
                <div className="max-w-[26rem] min-w-0">
                  <Link to={`/dashboard/sessions/${shortId(session.name)}` as string} className="font-medium">
                    {session.displayName || shortId(session.name)}
                  </Link>
                  <div className="truncate text-xs text-ink-soft" title={session.instruction}>
                    {session.instruction || "from a plan"}
                  </div>
                </div>
              ),
            },
            {
              id: "state",
              header: "State",
              width: 120,
              value: (session) => session.state,
              cell: (session) => <ResourceState state={session.state} />,
            },
            {
              id: "phase",
              header: "Phase",
              width: 160,
              value: (session) => session.phase,
              cell: (session) => phaseTitle(session.phase),
            },
            {
              id: "spent",
              header: "At work",
              align: "right",
              width: 110,
              value: (session) => session.spentSeconds,
              cell: (session) => span(session.spentSeconds),
            },
            {
              id: "created",
              header: "Started",
              align: "right",
              width: 130,
              value: (session) => session.createTime,
              cell: (session) => <Time at={session.createTime} ago />,
            },
          ]}
        />
      )}
    </div>
  );
}

function Start() {
  const datasets = useDatasets();
  const start = useStartSession();
  const navigate = useNavigate();
  const [words, setWords] = useState("");
  const [dataset, setDataset] = useState("");
  const mention = (name: string) => {
    setDataset("");
    setWords((before) => `${before}${before && !/\s$/.test(before) ? " " : ""}${name}`);
  };
  const submit = () =>
    start.mutate(
      { instruction: words.trim() },
      { onSuccess: (session) => navigate({ href: `/dashboard/sessions/${shortId(session.name)}` }) },
    );
  const first = datasets.data?.[0]?.name ?? "accounts/…/datasets/…";
  return (
    <Panel title="Start a session">
      <form
        className="space-y-3"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <Field label="Instruction" error={start.error?.message}>
          {(ids) => (
            <TextArea
              {...ids}
              className="w-full"
              rows={3}
              maxLength={20_000}
              value={words}
              placeholder="Run SFT on … across …, LoRA ranks 8 and 16. Generate an evaluator for me."
              onChange={(event) => setWords(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && words.trim()) submit();
              }}
            />
          )}
        </Field>
        <div className="flex flex-wrap items-center justify-between gap-2">
          <div className="flex min-w-0 flex-wrap items-center gap-2">
            <Select
              aria-label="Insert the name of a dataset"
              className="max-w-52"
              value={dataset}
              onChange={(event) => mention(event.target.value)}
            >
              <option value="" disabled>
                Insert a dataset
              </option>
              {(datasets.data ?? []).map(({ name }) => (
                <option key={name} value={name}>
                  {shortId(name)}
                </option>
              ))}
            </Select>
            {EXAMPLES.map((example, number) => (
              <Button
                key={example}
                small
                kind="quiet"
                onClick={() => setWords(example.replace("{dataset}", first))}
              >
                Example {number + 1}
              </Button>
            ))}
          </div>
          <Button kind="primary" type="submit" busy={start.isPending} disabled={!words.trim()}>
            Start
          </Button>
        </div>
      </form>
    </Panel>
  );
}

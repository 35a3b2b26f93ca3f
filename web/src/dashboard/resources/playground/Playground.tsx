// Chat with a model, or with two side by side under the same prompts.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Columns2, Eraser, RefreshCw, Send, Square, X } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useDeployments } from "~/api/deployments";
import { useCallable } from "~/api/models";
import { shortId } from "~/api/names";
import { useSession } from "~/dashboard/session";
import { Button, IconButton } from "~/design/Button";
import { Field, Input, Select, TextArea } from "~/design/Field";
import { PageHeader } from "~/design/PageHeader";
import { Failure } from "~/design/Panel";
import { Transcript } from "./Transcript";
import { useChat } from "./useChat";

interface Search {
  model?: string;
  beside?: string;
}

export function Playground() {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const session = useSession();
  const callable = useCallable();
  const deployments = useDeployments();
  const names = [...(deployments.data ?? []).map((one) => one.name), ...(callable.data ?? [])];
  const model = search.model ?? names.find((name) => !name.includes("/deployments/")) ?? "";
  const { beside } = search;
  const [system, setSystem] = useState("");
  const [temperature, setTemperature] = useState(1);
  const [maxTokens, setMaxTokens] = useState(256);
  const [prompt, setPrompt] = useState("");
  const left = useChat();
  const right = useChat();
  const busy = left.busy || right.busy;
  const chats = beside ? [left, right] : [left];
  const begun = left.turns.length > 0 || right.turns.length > 0;
  const looksOnly = session.data?.role === "viewer";
  const sampling = { temperature, maxTokens };

  const go = (next: Search) => navigate({ to: ".", search: next as never, replace: true });
  const send = (event?: FormEvent) => {
    event?.preventDefault();
    const text = prompt.trim();
    if (!text || busy || !model || looksOnly) return;
    setPrompt("");
    left.ask(model, text, system, sampling);
    if (beside) right.ask(beside, text, system, sampling);
  };
  const again = () => {
    left.again(model, system, sampling);
    if (beside) right.again(beside, system, sampling);
  };
  const stop = () => {
    for (const chat of [left, right]) chat.stop();
  };

  return (
    <div className="flex min-h-[calc(100dvh-2.5rem)] flex-col max-lg:min-h-[calc(100dvh-6rem)]">
      <PageHeader
        title="Playground"
        actions={
          <>
            <Button
              icon={<Eraser size={14} />}
              disabled={!begun || busy}
              onClick={() => {
                left.clear();
                right.clear();
              }}
            >
              Clear
            </Button>
            {!beside && (
              <Button
                icon={<Columns2 size={14} />}
                disabled={names.length === 0}
                onClick={() => {
                  right.copy(left);
                  go({ model, beside: names.find((name) => name !== model) ?? model });
                }}
              >
                Compare
              </Button>
            )}
          </>
        }
      />
      {callable.error && (
        <div className="mb-4">
          <Failure
            title="The models could not be loaded"
            error={callable.error}
            retry={() => callable.refetch()}
          />
        </div>
      )}
      <details className="mb-4 rounded-lg border bg-surface" open>
        <summary className="cursor-pointer px-4 py-2 text-[13px] font-semibold">Settings</summary>
        <div className="grid gap-4 border-t p-4 sm:grid-cols-2 lg:grid-cols-[minmax(0,1fr)_9rem_9rem]">
          <Field label="System prompt" className="sm:max-lg:col-span-2">
            {(ids) => (
              <TextArea
                {...ids}
                rows={2}
                value={system}
                placeholder="None"
                onChange={(event) => setSystem(event.target.value)}
                className="min-h-9"
              />
            )}
          </Field>
          <Field label="Temperature" hint="0 to 2; 0 takes the likeliest">
            {(ids) => (
              <Input
                {...ids}
                type="number"
                min={0}
                max={2}
                step={0.1}
                value={temperature}
                onChange={(event) => setTemperature(Math.min(2, Math.max(0, Number(event.target.value))))}
              />
            )}
          </Field>
          <Field label="Max tokens" hint="of an answer">
            {(ids) => (
              <Input
                {...ids}
                type="number"
                min={1}
                max={16384}
                value={maxTokens}
                onChange={(event) => setMaxTokens(Math.max(1, Math.round(Number(event.target.value))))}
              />
            )}
          </Field>
        </div>
      </details>
      <div className={`grid min-h-0 flex-1 gap-4 ${beside ? "lg:grid-cols-2" : ""}`}>
        {chats.map((chat, place) => (
          <section
            // biome-ignore lint/suspicious/noArrayIndexKey: left and right keep their places
            key={place}
            aria-label={place ? "Second model" : "First model"}
            className="flex min-w-0 flex-col rounded-lg border bg-surface"
          >
            <div className="flex items-center gap-2 border-b bg-raised px-3 py-2">
              <ModelSelect
                label={place ? "Second model" : "Model"}
                names={names}
                value={(place ? beside : model) ?? ""}
                onChange={(name) => go(place ? { model, beside: name } : { model: name, beside })}
              />
              {place === 1 && (
                <IconButton label="Close the second model" onClick={() => go({ model })}>
                  <X size={15} />
                </IconButton>
              )}
            </div>
            <Transcript chat={chat} />
          </section>
        ))}
      </div>
      <form onSubmit={send} className="sticky bottom-0 mt-4 flex items-end gap-2 bg-ground pb-3">
        <TextArea
          aria-label="Message"
          placeholder={
            looksOnly
              ? "Sign in with an API key to call models"
              : "Write a message; Enter sends, Shift+Enter breaks the line"
          }
          rows={2}
          value={prompt}
          disabled={looksOnly}
          onChange={(event) => setPrompt(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) send(event);
          }}
          className="min-h-12 flex-1 resize-y"
        />
        <div className="flex flex-col gap-1.5">
          {busy ? (
            <Button kind="danger" icon={<Square size={13} />} onClick={stop}>
              Stop
            </Button>
          ) : (
            <Button
              kind="primary"
              type="submit"
              icon={<Send size={14} />}
              disabled={!prompt.trim() || !model || looksOnly}
            >
              Send
            </Button>
          )}
          <Button
            small
            icon={<RefreshCw size={13} />}
            disabled={busy || !left.turns.length || looksOnly}
            onClick={again}
          >
            Regenerate
          </Button>
        </div>
      </form>
    </div>
  );
}

function ModelSelect(props: {
  label: string;
  names: readonly string[];
  value: string;
  onChange: (name: string) => void;
}) {
  const { names, value } = props;
  const known = names.includes(value) || !value ? names : [value, ...names];
  const groups: [string, string[]][] = [
    ["Deployments", known.filter((name) => name.includes("/deployments/"))],
    ["Your models", known.filter((name) => !name.includes("/deployments/") && !isBase(name))],
    ["Base models", known.filter(isBase)],
  ];
  return (
    <Select
      aria-label={props.label}
      value={value}
      onChange={(event) => props.onChange(event.target.value)}
      className="min-w-0 flex-1"
    >
      {groups.map(([label, members]) =>
        members.length ? (
          <optgroup key={label} label={label}>
            {members.map((name) => (
              <option key={name} value={name}>
                {name.startsWith("accounts/") ? shortId(name) : name}
              </option>
            ))}
          </optgroup>
        ) : null,
      )}
    </Select>
  );
}

function isBase(name: string): boolean {
  return /^accounts\/(tunesmith|fireworks)\//.test(name) || !name.startsWith("accounts/");
}

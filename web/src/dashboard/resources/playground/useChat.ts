// One conversation with a model: what was said, what comes, and how it went.
import { useEffect, useRef, useState } from "react";
import { type Answer, type ChatTurn, chat, NO_ANSWER, type Sampling } from "./chat";

export interface Said {
  role: "user" | "assistant";
  content: string;
  /** Of an answer. */
  answer?: Answer;
  model?: string;
  error?: string;
  stopped?: boolean;
}

export interface Chat {
  turns: readonly Said[];
  busy: boolean;
  ask: (model: string, prompt: string, system: string, sampling: Sampling) => void;
  /** The last prompt once more, in place of its answer. */
  again: (model: string, system: string, sampling: Sampling) => void;
  stop: () => void;
  clear: () => void;
  /** Take over the prompts of another conversation, without its answers. */
  copy: (other: Chat) => void;
}

export function useChat(): Chat {
  const [turns, setTurns] = useState<readonly Said[]>([]);
  const [busy, setBusy] = useState(false);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);

  const run = async (model: string, before: readonly Said[], system: string, sampling: Sampling) => {
    const controller = new AbortController();
    running.current = controller;
    const show = (turn: Partial<Said>) =>
      setTurns([...before, { role: "assistant", content: turn.answer?.content ?? "", model, ...turn }]);
    let last = NO_ANSWER;
    setBusy(true);
    show({ answer: NO_ANSWER });
    try {
      await chat(model, messages(before, system), sampling, controller.signal, (answer) => {
        last = answer;
        show({ answer });
      });
    } catch (error) {
      const stopped = controller.signal.aborted;
      show({ answer: last, stopped, error: stopped ? undefined : sentence(error) });
    } finally {
      if (running.current === controller) {
        running.current = null;
        setBusy(false);
      }
    }
  };

  return {
    turns,
    busy,
    ask: (model, prompt, system, sampling) => {
      run(model, [...turns, { role: "user", content: prompt }], system, sampling);
    },
    again: (model, system, sampling) => {
      const place = turns.findLastIndex((turn) => turn.role === "user");
      if (place >= 0) run(model, turns.slice(0, place + 1), system, sampling);
    },
    stop: () => running.current?.abort(),
    clear: () => setTurns([]),
    copy: (other) => {
      const last = other.turns.findLast((turn) => turn.role === "user");
      setTurns(last ? [last] : []);
    },
  };
}

/** What is sent: answers that failed or said nothing are left out, with their prompts. */
export function messages(turns: readonly Said[], system: string): ChatTurn[] {
  const sent: ChatTurn[] = system.trim() ? [{ role: "system", content: system }] : [];
  turns.forEach((turn, place) => {
    const answer = turns[place + 1];
    const failed = turn.role === "user" ? answer !== undefined && !answer.content : !turn.content;
    if (!failed) sent.push({ role: turn.role, content: turn.content });
  });
  return sent;
}

function sentence(error: unknown): string {
  if (error instanceof TypeError) return "The gateway cannot be reached. Is the platform still running?";
  return error instanceof Error ? error.message : String(error);
}

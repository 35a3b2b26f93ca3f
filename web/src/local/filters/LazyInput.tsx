// An input that tells what was typed when the typing rests, at Enter, or when it is left: a filter is not run for every letter.
import { type ComponentProps, useEffect, useRef, useState } from "react";
import { Input } from "~/design/Field";

const REST = 400; // milliseconds

export function LazyInput({
  value,
  onCommit,
  ...rest
}: { value: string; onCommit: (value: string) => void } & Omit<
  ComponentProps<typeof Input>,
  "value" | "onChange"
>) {
  const [typed, setTyped] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const commit = (text: string | null) => {
    clearTimeout(timer.current);
    setTyped(null);
    if (text !== null && text !== value) onCommit(text);
  };
  const latest = useRef(commit);
  latest.current = commit;
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <Input
      {...rest}
      value={typed ?? value}
      onChange={(event) => {
        const text = event.target.value;
        setTyped(text);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => latest.current(text), REST);
      }}
      onBlur={() => commit(typed)}
      onKeyDown={(event) => event.key === "Enter" && commit(typed)}
    />
  );
}

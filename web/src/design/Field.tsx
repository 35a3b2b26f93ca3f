// What people type into: inputs, native selects (they work with every keyboard, screen reader and phone), labels and hints.
import { clsx } from "clsx";
import {
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  type TextareaHTMLAttributes,
  useId,
} from "react";

const BOX =
  "rounded-md border border-line-strong bg-surface px-2.5 text-[13px] text-ink placeholder:text-ink-faint disabled:opacity-55 aria-invalid:border-bad";

export function Input({ className, ...rest }: InputHTMLAttributes<HTMLInputElement>) {
  return <input {...rest} className={clsx(BOX, "h-8 min-w-0", className)} />;
}

export function TextArea({ className, ...rest }: TextareaHTMLAttributes<HTMLTextAreaElement>) {
  return <textarea {...rest} className={clsx(BOX, "min-h-20 py-2", className)} />;
}

export function Select({ className, children, ...rest }: SelectHTMLAttributes<HTMLSelectElement>) {
  return (
    <select {...rest} className={clsx(BOX, "h-8 min-w-0 pr-7", className)}>
      {children}
    </select>
  );
}

/** A labelled field; `hint` explains it, `error` says what is wrong with it. Give `children` the ids it gets. */
export function Field(props: {
  label: ReactNode;
  hint?: ReactNode;
  error?: ReactNode;
  className?: string;
  children: (ids: {
    id: string;
    "aria-describedby": string;
    "aria-invalid": boolean | undefined;
  }) => ReactNode;
}) {
  const id = useId();
  return (
    <div className={clsx("flex min-w-0 flex-col gap-1", props.className)}>
      <label htmlFor={id} className="text-[13px] font-medium">
        {props.label}
      </label>
      {props.children({
        id,
        "aria-describedby": `${id}-hint`,
        "aria-invalid": props.error ? true : undefined,
      })}
      <div id={`${id}-hint`} className={clsx("text-xs", props.error ? "text-bad" : "text-ink-faint")}>
        {props.error || props.hint}
      </div>
    </div>
  );
}

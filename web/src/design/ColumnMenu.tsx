// Which columns of a table are shown: a menu, and the memory of this browser.
import { Check, Columns3 } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { useState } from "react";
import { Button } from "./Button";

interface Named {
  id: string;
  header: string;
  hidden?: boolean;
}

const KEY = "tunesmith-columns:";

/** The ids of the hidden columns, kept under `name` where there is one. */
export function useHiddenColumns(
  name: string | undefined,
  columns: readonly Named[],
): [ReadonlySet<string>, (hidden: ReadonlySet<string>) => void] {
  // Only what differs from the columns' own defaults is kept: a column that is new tomorrow shows as it was meant.
  const [chosen, setChosen] = useState<Record<string, boolean>>(() => read(name));
  const hidden = new Set(
    columns.filter((column) => chosen[column.id] ?? column.hidden ?? false).map((column) => column.id),
  );
  const change = (next: ReadonlySet<string>) => {
    const kept: Record<string, boolean> = {};
    for (const column of columns)
      if (next.has(column.id) !== (column.hidden ?? false)) kept[column.id] = next.has(column.id);
    setChosen(kept);
    try {
      if (name) localStorage.setItem(KEY + name, JSON.stringify(kept));
    } catch {
      // A browser without storage forgets the choice; the table works.
    }
  };
  return [hidden, change];
}

export function ColumnMenu(props: {
  columns: readonly Named[];
  hidden: ReadonlySet<string>;
  onChange: (hidden: ReadonlySet<string>) => void;
}) {
  const toggle = (id: string) => {
    const next = new Set(props.hidden);
    if (!next.delete(id)) next.add(id);
    if (next.size < props.columns.length) props.onChange(next);
  };
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger asChild>
        <Button small kind="quiet" icon={<Columns3 size={14} aria-hidden="true" />}>
          Columns
        </Button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align="end"
          sideOffset={4}
          className="z-50 max-h-[70dvh] min-w-44 overflow-y-auto rounded-lg border bg-raised p-1 shadow-raised"
        >
          {props.columns.map((column) => (
            <DropdownMenu.CheckboxItem
              key={column.id}
              checked={!props.hidden.has(column.id)}
              onCheckedChange={() => toggle(column.id)}
              onSelect={(event) => event.preventDefault()}
              className="flex cursor-pointer items-center gap-2 rounded px-2 py-1.5 text-[13px] outline-none data-[highlighted]:bg-sunken"
            >
              <span className="inline-flex size-4 items-center justify-center">
                <DropdownMenu.ItemIndicator>
                  <Check size={14} className="text-accent-text" />
                </DropdownMenu.ItemIndicator>
              </span>
              {column.header}
            </DropdownMenu.CheckboxItem>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

function read(name: string | undefined): Record<string, boolean> {
  if (!name) return {};
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY + name) ?? "{}");
    return typeof kept === "object" && kept !== null ? (kept as Record<string, boolean>) : {};
  } catch {
    return {};
  }
}

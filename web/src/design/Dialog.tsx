// Windows over the page: a dialog in the middle, a drawer from the right that can fill the screen. Escape closes; focus stays inside and returns.
import { clsx } from "clsx";
import { Maximize2, Minimize2, X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import { type ReactNode, useRef, useState } from "react";
import { Button, IconButton } from "./Button";

const VEIL = "fixed inset-0 z-40 bg-black/45";

export function Dialog(props: {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  footer?: ReactNode;
  wide?: boolean;
}) {
  const focus = useFocusBack();
  return (
    <Radix.Root open={props.open} onOpenChange={(open) => !open && props.onClose()}>
      <Radix.Portal>
        <Radix.Overlay className={VEIL} />
        <Radix.Content
          aria-describedby={undefined}
          {...focus}
          className={clsx(
            "fixed top-1/2 left-1/2 z-50 flex max-h-[90dvh] w-[calc(100vw-2rem)] -translate-x-1/2 -translate-y-1/2 flex-col rounded-xl border bg-surface shadow-raised",
            props.wide ? "max-w-4xl" : "max-w-lg",
          )}
        >
          <header className="flex items-center justify-between gap-3 border-b px-4 py-3">
            <Radix.Title className="font-semibold">{props.title}</Radix.Title>
            <Radix.Close asChild>
              <IconButton label="Close">
                <X size={16} />
              </IconButton>
            </Radix.Close>
          </header>
          <div className="min-h-0 overflow-y-auto p-4">{props.children}</div>
          {props.footer && (
            <footer className="flex justify-end gap-2 border-t px-4 py-3">{props.footer}</footer>
          )}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

/** Details of one thing beside the page; a button makes it fill the screen. */
export function Drawer(props: {
  open: boolean;
  onClose: () => void;
  title: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  const [full, setFull] = useState(false);
  const focus = useFocusBack();
  return (
    <Radix.Root open={props.open} onOpenChange={(open) => !open && props.onClose()}>
      <Radix.Portal>
        <Radix.Overlay className={VEIL} />
        <Radix.Content
          aria-describedby={undefined}
          {...focus}
          className={clsx(
            "fixed inset-y-0 right-0 z-50 flex w-full flex-col border-l bg-surface shadow-raised",
            !full && "lg:w-[min(72rem,92vw)]",
          )}
        >
          <header className="flex items-center justify-between gap-3 border-b px-4 py-2.5">
            <Radix.Title className="min-w-0 truncate font-semibold">{props.title}</Radix.Title>
            <div className="flex items-center gap-1">
              {props.actions}
              <IconButton
                label={full ? "Leave full screen" : "Full screen"}
                onClick={() => setFull(!full)}
                className="max-lg:hidden"
              >
                {full ? <Minimize2 size={15} /> : <Maximize2 size={15} />}
              </IconButton>
              <Radix.Close asChild>
                <IconButton label="Close">
                  <X size={16} />
                </IconButton>
              </Radix.Close>
            </div>
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto">{props.children}</div>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

/** What had the focus gets it back. Radix gives it to its own trigger only, and these windows are opened from anywhere. */
function useFocusBack() {
  const from = useRef<HTMLElement | null>(null);
  return {
    onOpenAutoFocus: () => {
      from.current = document.activeElement as HTMLElement | null;
    },
    onCloseAutoFocus: (event: Event) => {
      event.preventDefault();
      from.current?.focus();
    },
  };
}

/** Asks before something that cannot be undone. */
export function Confirm(props: {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  action: string;
  busy?: boolean;
  onConfirm: () => void;
}) {
  return (
    <Dialog
      open={props.open}
      onClose={props.onClose}
      title={props.title}
      footer={
        <>
          <Button onClick={props.onClose}>Keep it</Button>
          <Button kind="danger" busy={props.busy} onClick={props.onConfirm}>
            {props.action}
          </Button>
        </>
      }
    >
      {props.children}
    </Dialog>
  );
}

// Asks before a resource is deleted, deletes it, and leads to the list that it was in.
import { useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { shortId } from "~/api/names";
import { Confirm } from "~/design/Dialog";
import { toast, toastError } from "~/design/Toast";

interface Removal {
  isPending: boolean;
  mutate: (name: string, then: { onSuccess: () => void; onError: (error: Error) => void }) => void;
}

/** `name`: as `remove` takes it. `list`: path of the page to go to. `children`: what is lost. */
export function DeleteConfirm(props: {
  open: boolean;
  onClose: () => void;
  name: string;
  remove: Removal;
  list: string;
  children: ReactNode;
}) {
  const navigate = useNavigate();
  const { name, remove, list, onClose } = props;
  const id = shortId(name);
  return (
    <Confirm
      open={props.open}
      onClose={onClose}
      title={`Delete ${id}?`}
      action="Delete it"
      busy={remove.isPending}
      onConfirm={() =>
        remove.mutate(name, {
          onSuccess: () => {
            toast(`${id} was deleted.`);
            navigate({ to: list });
          },
          onError: (error) => {
            onClose();
            toastError(error);
          },
        })
      }
    >
      {props.children}
    </Confirm>
  );
}

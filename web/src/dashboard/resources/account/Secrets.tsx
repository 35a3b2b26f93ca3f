// Secrets by name: add, replace, delete. A value that was stored is never shown again, to anyone.
import { Lock, Plus } from "lucide-react";
import { useState } from "react";
import { shortId } from "~/api/names";
import { type Secret, useDeleteSecret, useSecrets, useStoreSecret } from "~/api/secrets";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { useSession } from "~/dashboard/session";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Confirm, Dialog } from "~/design/Dialog";
import { Field, Input, TextArea } from "~/design/Field";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";
import { toast, toastError } from "~/design/Toast";

export function Secrets() {
  const { data: session } = useSession();
  const viewer = session?.role === "viewer";
  const secrets = useSecrets(!viewer);
  const remove = useDeleteSecret();
  const [open, setOpen] = useState<"new" | Secret | null>(null);
  const [asked, setAsked] = useState<Secret | null>(null);
  const columns: Column<Secret>[] = [
    {
      id: "name",
      header: "Secret",
      width: 220,
      value: (secret) => shortId(secret.name),
      cell: (secret) => <span className="font-medium break-all">{shortId(secret.name)}</span>,
    },
    {
      id: "key",
      header: "Environment variable",
      width: 220,
      value: (secret) => secret.keyName,
      cell: (secret) => <code className="font-mono text-xs break-all">{secret.keyName}</code>,
    },
    {
      id: "updated",
      header: "Last written",
      width: 140,
      value: (secret) => secret.updateTime,
      cell: (secret) => <Time at={secret.updateTime} ago />,
    },
    {
      id: "actions",
      header: "Actions",
      width: 180,
      cell: (secret) => (
        <div className="flex gap-1.5">
          <ChangeButton small onClick={() => setOpen(secret)}>
            Replace value
          </ChangeButton>
          <ChangeButton small kind="danger" onClick={() => setAsked(secret)}>
            Delete
          </ChangeButton>
        </div>
      ),
    },
  ];
  return (
    <>
      <PageHeader
        title="Secrets"
        actions={
          <ChangeButton kind="primary" icon={<Plus size={15} />} onClick={() => setOpen("new")}>
            Add a secret
          </ChangeButton>
        }
      >
        Evaluators find them as environment variables. Values are encrypted, go in and never come out: here
        are their names.
      </PageHeader>
      {viewer ? (
        <Restricted what="Secrets" />
      ) : secrets.error && !secrets.data ? (
        <Failure
          title="The secrets could not be loaded"
          error={secrets.error}
          retry={() => secrets.refetch()}
        />
      ) : (
        <DataTable
          label="Secrets"
          columns={columns}
          rows={secrets.data}
          rowKey={(secret) => secret.name}
          empty={
            <Empty picture={<Lock size={32} />} title="No secrets yet">
              Keys that an evaluator needs, of a judge model for example.{" "}
              <code className="font-mono">ep upload</code> stores those of the project's{" "}
              <code className="font-mono">.env</code>.
            </Empty>
          }
        />
      )}
      {open && <SecretDialog secret={open === "new" ? null : open} onClose={() => setOpen(null)} />}
      <Confirm
        open={asked !== null}
        onClose={() => setAsked(null)}
        title={`Delete ${shortId(asked?.name)}?`}
        action="Delete it"
        busy={remove.isPending}
        onConfirm={() =>
          asked &&
          remove.mutate(asked.name, {
            onSuccess: () => toast(`${shortId(asked.name)} was deleted.`),
            onError: toastError,
            onSettled: () => setAsked(null),
          })
        }
      >
        Evaluators that read <code className="font-mono">{asked?.keyName}</code> no longer find it.
      </Confirm>
    </>
  );
}

export function Restricted({ what }: { what: string }) {
  return (
    <div className="rounded-lg border bg-surface">
      <Empty picture={<Lock size={32} />} title={`${what} are not shown without a key`}>
        This browser looks without having signed in. Sign in with an API key to see and change them.
      </Empty>
    </div>
  );
}

function SecretDialog({ secret, onClose }: { secret: Secret | null; onClose: () => void }) {
  const store = useStoreSecret();
  const [keyName, setKeyName] = useState(secret?.keyName ?? "");
  const [value, setValue] = useState("");
  const wrong = keyName !== "" && !/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(keyName);
  const id = keyName
    .toLowerCase()
    .replaceAll("_", "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
  const save = () =>
    store.mutate(
      { name: secret?.name, id, keyName, value },
      {
        onSuccess: () => {
          toast(secret ? `${shortId(secret.name)} has a new value.` : `${keyName} is stored.`);
          onClose();
        },
      },
    );
  return (
    <Dialog
      open
      onClose={onClose}
      title={secret ? `Replace the value of ${shortId(secret.name)}` : "Add a secret"}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button
            kind="primary"
            busy={store.isPending}
            disabled={!keyName || wrong || !id || !value}
            onClick={save}
          >
            Store
          </Button>
        </>
      }
    >
      <div className="space-y-4">
        <Field
          label="Environment variable"
          hint={id && !secret ? `Stored as ${id}.` : "For example OPENAI_API_KEY."}
          error={wrong ? "Letters, digits and underscores, not beginning with a digit." : undefined}
        >
          {(ids) => (
            <Input
              {...ids}
              value={keyName}
              disabled={secret !== null}
              autoComplete="off"
              spellCheck={false}
              onChange={(event) => setKeyName(event.target.value)}
              className="font-mono"
            />
          )}
        </Field>
        <Field label="Value" hint="It is not shown again. Line breaks are kept.">
          {(ids) => (
            <TextArea
              {...ids}
              value={value}
              rows={3}
              autoComplete="off"
              spellCheck={false}
              onChange={(event) => setValue(event.target.value)}
              className="font-mono [-webkit-text-security:disc]"
            />
          )}
        </Field>
        {store.error && (
          <p role="alert" className="break-words text-bad">
            {store.error.message}
          </p>
        )}
      </div>
    </Dialog>
  );
}

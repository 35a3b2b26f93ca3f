// Adding a user, and making a key, which is shown this once.
import { type ReactNode, useState } from "react";
import { idFrom } from "~/api/names";
import { useCreateApiKey, useCreateUser } from "~/api/users";
import { Button } from "~/design/Button";
import { Code } from "~/design/Copy";
import { Dialog } from "~/design/Dialog";
import { Field, Input, Select } from "~/design/Field";
import { toast } from "~/design/Toast";
import { GIVEN_ROLES, ROLES } from "./roles";

export function UserDialog({ onClose }: { onClose: () => void }) {
  const create = useCreateUser();
  const [name, setName] = useState("");
  const [role, setRole] = useState("user");
  const [serviceAccount, setServiceAccount] = useState(false);
  const id = idFrom(name);
  return (
    <Dialog
      open
      onClose={onClose}
      title="Add a user"
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button
            kind="primary"
            busy={create.isPending}
            disabled={!id}
            onClick={() =>
              create.mutate(
                { id, role, displayName: name.trim(), serviceAccount },
                {
                  onSuccess: () => {
                    toast(`${name} was added.`);
                    onClose();
                  },
                },
              )
            }
          >
            Add
          </Button>
        </>
      }
    >
      <div className="space-y-4">
        <Field label="Name" hint={id ? `Id: ${id}` : undefined}>
          {(ids) => (
            <Input {...ids} value={name} maxLength={63} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
        <Field label="Role" hint={ROLES[role]}>
          {(ids) => (
            <Select {...ids} value={role} onChange={(event) => setRole(event.target.value)}>
              {GIVEN_ROLES.map((one) => (
                <option key={one} value={one}>
                  {one}
                </option>
              ))}
            </Select>
          )}
        </Field>
        <label className="flex items-center gap-2">
          <input
            type="checkbox"
            checked={serviceAccount}
            onChange={(event) => setServiceAccount(event.target.checked)}
            className="accent-accent"
          />
          A program, not a person (service account)
        </label>
        <Problem error={create.error} />
      </div>
    </Dialog>
  );
}

const LIFETIMES: [label: string, days: number][] = [
  ["never", 0],
  ["in 7 days", 7],
  ["in 30 days", 30],
  ["in 90 days", 90],
  ["in a year", 365],
];

export function KeyDialog({ user, onClose }: { user: string; onClose: () => void }) {
  const create = useCreateApiKey(user);
  const [name, setName] = useState("");
  const [days, setDays] = useState(0);
  const made = create.data?.key;
  const make = () =>
    create.mutate({
      displayName: name.trim() || "default",
      ...(days ? { expireTime: new Date(Date.now() + days * 86_400_000).toISOString() } : {}),
    });
  return (
    <Dialog
      open
      onClose={onClose}
      title={made ? "The new key" : "New API key"}
      footer={
        made ? (
          <Button kind="primary" onClick={onClose}>
            I have copied it
          </Button>
        ) : (
          <>
            <Button onClick={onClose}>Cancel</Button>
            <Button kind="primary" busy={create.isPending} onClick={make}>
              Make the key
            </Button>
          </>
        )
      }
    >
      {made ? (
        <div className="space-y-3">
          <p>
            Copy it now: <strong>it is shown this once</strong>, and the platform does not keep it.
          </p>
          <Code text={made} wrap />
        </div>
      ) : (
        <div className="space-y-4">
          <Field label="Name" hint="Where it is used, e.g. laptop or ci.">
            {(ids) => (
              <Input {...ids} value={name} maxLength={63} onChange={(event) => setName(event.target.value)} />
            )}
          </Field>
          <Field label="Expires">
            {(ids) => (
              <Select {...ids} value={days} onChange={(event) => setDays(Number(event.target.value))}>
                {LIFETIMES.map(([label, value]) => (
                  <option key={label} value={value}>
                    {label}
                  </option>
                ))}
              </Select>
            )}
          </Field>
          <Problem error={create.error} />
        </div>
      )}
    </Dialog>
  );
}

function Problem({ error }: { error: Error | null }): ReactNode {
  return error ? (
    <p role="alert" className="break-words text-bad">
      {error.message}
    </p>
  ) : null;
}

// Users, service accounts and their API keys. A new key is shown once, in the answer that made it.
import { KeyRound, Plus, Trash2, UserPlus } from "lucide-react";
import { useState } from "react";
import { shortId } from "~/api/names";
import { type ApiKey, type User, useApiKeys, useDeleteUser, useEndApiKey, useUsers } from "~/api/users";
import { useSession } from "~/dashboard/session";
import { Badge } from "~/design/Badge";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Confirm } from "~/design/Dialog";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure, Loaded, Panel } from "~/design/Panel";
import { Time } from "~/design/Time";
import { toast, toastError } from "~/design/Toast";
import { KeyDialog, UserDialog } from "./KeyDialogs";
import { ROLES } from "./roles";
import { Restricted } from "./Secrets";

export function ApiKeys() {
  const { data: session } = useSession();
  const admin = session?.role === "admin";
  const users = useUsers(admin);
  const [adding, setAdding] = useState(false);
  return (
    <>
      <PageHeader
        title="API keys"
        actions={
          admin && (
            <Button kind="primary" icon={<UserPlus size={15} />} onClick={() => setAdding(true)}>
              Add a user
            </Button>
          )
        }
      >
        Every key belongs to a user or a service account, whose role says what it may do.
      </PageHeader>
      {session?.role === "viewer" ? (
        <Restricted what="API keys" />
      ) : !admin ? (
        <div className="rounded-lg border bg-surface">
          <Empty picture={<KeyRound size={32} />} title="Only an admin sees users and keys">
            Your role is {session?.role}: {ROLES[session?.role ?? ""] ?? ""}. The account's own key is an
            admin.
          </Empty>
        </div>
      ) : users.error && !users.data ? (
        <Failure title="The users could not be loaded" error={users.error} retry={() => users.refetch()} />
      ) : (
        <div className="space-y-4">
          <Panel title="The account's own key">
            <p className="max-w-prose text-ink-soft">
              Made when the platform first started; it is in the client profile on its machine and an admin.{" "}
              <code className="font-mono">tunesmith env</code> prints it. Give other people and programs keys
              of their own.
            </p>
          </Panel>
          <Loaded query={users} what="The users">
            {(list) =>
              list.length === 0 ? (
                <div className="rounded-lg border bg-surface">
                  <Empty picture={<UserPlus size={32} />} title="No users yet">
                    Add a person, or a service account for a program, and make keys for them.
                  </Empty>
                </div>
              ) : (
                <div className="space-y-4">
                  {list.map((user) => (
                    <UserPanel key={user.name} user={user} />
                  ))}
                </div>
              )
            }
          </Loaded>
        </div>
      )}
      {adding && <UserDialog onClose={() => setAdding(false)} />}
    </>
  );
}

function UserPanel({ user }: { user: User }) {
  const keys = useApiKeys(user.name);
  const end = useEndApiKey(user.name);
  const remove = useDeleteUser();
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<ApiKey | null>(null);
  const [removing, setRemoving] = useState(false);
  const columns: Column<ApiKey>[] = [
    {
      id: "name",
      header: "Key",
      width: 180,
      value: (key) => key.displayName,
      cell: (key) => <span className="font-medium">{key.displayName}</span>,
    },
    {
      id: "prefix",
      header: "Begins with",
      width: 130,
      cell: (key) => <code className="font-mono text-xs">{key.prefix}…</code>,
    },
    {
      id: "created",
      header: "Created",
      width: 120,
      value: (key) => key.createTime,
      cell: (key) => <Time at={key.createTime} ago />,
    },
    {
      id: "expires",
      header: "Expires",
      width: 160,
      value: (key) => key.expireTime,
      cell: (key) => (key.expireTime ? <Time at={key.expireTime} /> : "never"),
    },
    {
      id: "actions",
      header: "Actions",
      width: 90,
      cell: (key) => (
        <Button small kind="danger" onClick={() => setEnding(key)}>
          End
        </Button>
      ),
    },
  ];
  return (
    <Panel
      flush
      title={
        <span className="flex flex-wrap items-center gap-2">
          {user.displayName || shortId(user.name)}
          <span title={ROLES[user.role]}>
            <Badge tone={user.role === "admin" ? "accent" : "plain"}>{user.role}</Badge>
          </span>
          {user.serviceAccount && <Badge>service account</Badge>}
          {user.permissionPreset && <Badge tone="note">only what {user.permissionPreset} lists</Badge>}
        </span>
      }
      actions={
        <>
          <Button small icon={<Plus size={13} />} onClick={() => setMaking(true)}>
            New key
          </Button>
          <Button small kind="danger" icon={<Trash2 size={13} />} onClick={() => setRemoving(true)}>
            Remove
          </Button>
        </>
      }
    >
      {keys.error && !keys.data ? (
        <div className="p-4">
          <Failure title="The keys could not be loaded" error={keys.error} retry={() => keys.refetch()} />
        </div>
      ) : (
        <DataTable
          label={`Keys of ${user.displayName || shortId(user.name)}`}
          className="rounded-none border-0"
          columns={columns}
          rows={keys.data}
          rowKey={(key) => key.keyId}
          empty={<p className="p-4 text-ink-soft">No key: this user cannot sign in yet.</p>}
        />
      )}
      {making && <KeyDialog user={user.name} onClose={() => setMaking(false)} />}
      <Confirm
        open={ending !== null}
        onClose={() => setEnding(null)}
        title={`End the key ${ending?.displayName}?`}
        action="End it"
        busy={end.isPending}
        onConfirm={() =>
          ending &&
          end.mutate(ending.keyId, {
            onSuccess: () => toast(`The key ${ending.displayName} has ended.`),
            onError: toastError,
            onSettled: () => setEnding(null),
          })
        }
      >
        Whoever uses it is refused within five seconds, for good.
      </Confirm>
      <Confirm
        open={removing}
        onClose={() => setRemoving(false)}
        title={`Remove ${user.displayName || shortId(user.name)}?`}
        action="Remove"
        busy={remove.isPending}
        onConfirm={() =>
          remove.mutate(user.name, {
            onSuccess: () => toast(`${shortId(user.name)} was removed.`),
            onError: toastError,
            onSettled: () => setRemoving(false),
          })
        }
      >
        All keys of this user end. What the user made stays.
      </Confirm>
    </Panel>
  );
}

// What each role may do, in a line.
export const ROLES: Record<string, string> = {
  admin: "everything, users and keys included",
  user: "everything but users and keys",
  contributor:
    "reads everything, makes datasets, evaluators, jobs and deployments; deletes nothing, sets no secrets",
  "inference-user": "model calls only",
  viewer: "looks only",
};
/** Those that a user can be given. */
export const GIVEN_ROLES = ["user", "contributor", "inference-user", "admin"];

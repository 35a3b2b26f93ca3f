// The pages of the local UI. State lives in the query, under the documented keys.
import { createRootRoute, createRoute, createRouter, redirect } from "@tanstack/react-router";
import { Shell } from "./Shell";

const root = createRootRoute({ component: Shell });
const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/table" });
  },
});
const table = createRoute({ getParentRoute: () => root, path: "/table", component: () => null });

export const router = createRouter({ routeTree: root.addChildren([index, table]), defaultPreload: false });

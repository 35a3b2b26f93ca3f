// The dashboard's paths: those that the clients print, and the rest around them. One file per area lists its routes; pages load lazily.
import { createRouter } from "@tanstack/react-router";
import { Failure, Skeleton } from "~/design/Panel";
import { createRoutes } from "./create/routes";
import { NotFound } from "./NotFound";
import { resourceRoutes } from "./resources/routes";
import { rftRoutes } from "./rft/routes";
import { root } from "./root";
import { sessionRoutes } from "./sessions/routes";
import { studioRoutes } from "./studio/routes";
import { tuningRoutes } from "./tuning/routes";

export const router = createRouter({
  routeTree: root.addChildren([
    ...resourceRoutes,
    ...createRoutes,
    ...rftRoutes,
    ...tuningRoutes,
    ...sessionRoutes,
    ...studioRoutes,
  ]),
  defaultPreload: false,
  scrollRestoration: true,
  defaultNotFoundComponent: NotFound,
  defaultPendingComponent: () => <Skeleton />,
  defaultErrorComponent: ({ error, reset }) => (
    <Failure title="This page broke" error={error} retry={reset} />
  ),
});

declare module "@tanstack/react-router" {
  interface StaticDataRouteOption {
    /** What the browser's tab says, behind the page's own parameters. */
    title?: string;
  }
}

//! The thread that speaks with clients.
//!
//! Connections are read and written, and answers out of memory made, on one thread that goes before all others: on a node
//! whose processors are busy with pods the kubelet's lists would otherwise wait for their turn at each step, some
//! milliseconds each time. All else runs on the daemon's own runtime.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crioxide_sys::scheduling;
use tokio::{
    runtime::{Builder, Handle, RuntimeMetrics},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{Request, Response},
    },
    server::NamedService,
};

/// Calls that only read memory, or start an operation on a thread of its own and wait for it.
const AT_ONCE: &[&str] = &[
    "ContainerStatus",
    "CreateContainer",
    "ExecSync",
    "ListContainers",
    "ListPodSandbox",
    "PodSandboxStatus",
    "RemoveContainer",
    "RemovePodSandbox",
    "RunPodSandbox",
    "StartContainer",
    "StopContainer",
    "StopPodSandbox",
    "StreamContainers",
    "StreamPodSandboxes",
    "Version",
];

type Answer = Result<Response<Body>, Infallible>;

/// Work on the thread that goes before others.
#[derive(Debug)]
pub(crate) struct Front<T> {
    outcome: oneshot::Receiver<T>,
    metrics: RuntimeMetrics,
}

impl<T: Send + 'static> Front<T> {
    /// Starts `work` on a new thread with a runtime of its own.
    ///
    /// # Errors
    /// When thread or runtime cannot be had.
    pub(crate) fn start<F>(work: impl FnOnce() -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = T>,
    {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let metrics = runtime.handle().metrics();
        let (done, outcome) = oneshot::channel();
        std::thread::Builder::new()
            .name("cri".to_owned())
            .spawn(move || {
                go_first();
                // Nobody waits for the outcome when the daemon is cut off at its end.
                let _ = done.send(runtime.block_on(async { work().await }));
            })?;
        Ok(Self { outcome, metrics })
    }

    /// Connections and calls that the thread has at hand.
    pub(crate) fn tasks_alive(&self) -> usize {
        self.metrics.num_alive_tasks()
    }
}

impl<T> Future for Front<T> {
    /// Nothing when the thread failed inside.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(Result::ok)
    }
}

/// Moves the calling thread before others, as far as this host allows it.
fn go_first() {
    if let Err(error) = scheduling::go_first() {
        tracing::warn!(
            "Calls wait for the processor like all else, as neither real-time priority nor nice -20 is allowed: {error}"
        );
    }
}

/// A service on that thread whose calls run where they belong.
#[derive(Debug, Clone)]
pub(crate) struct Placed<S> {
    service: S,
    elsewhere: Handle,
}

impl<S> Placed<S> {
    /// Calls that are not for this thread run on `elsewhere`, and so does all that any call starts.
    pub(crate) const fn new(service: S, elsewhere: Handle) -> Self {
        Self { service, elsewhere }
    }
}

impl<S: NamedService> NamedService for Placed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Placed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rpc = request.uri().path().rsplit('/').next().unwrap_or_default();
        let at_once = AT_ONCE.contains(&rpc);
        let _entered = self.elsewhere.enter();
        let call = self.service.call(request);
        if at_once {
            Call::Here(self.elsewhere.clone(), Some(call))
        } else {
            Call::Elsewhere(self.elsewhere.spawn(call))
        }
    }
}

/// One call under way. Dropped, it ends where it runs.
pub(crate) enum Call<F> {
    /// On the calling thread, with the other runtime for what it starts. Nothing only while it is dropped.
    Here(Handle, Option<F>),
    /// In a task of the other runtime.
    Elsewhere(JoinHandle<Answer>),
}

impl<F: Future<Output = Answer> + Unpin> Future for Call<F> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Here(runtime, call) => {
                let _entered = runtime.enter();
                call.as_mut()
                    .map_or(Poll::Pending, |call| Pin::new(call).poll(context))
            }
            Self::Elsewhere(task) => {
                let answer = ready!(Pin::new(task).poll(context));
                Poll::Ready(answer.unwrap_or_else(|error| {
                    Ok(Status::internal(format!("the call failed inside: {error}")).into_http())
                }))
            }
        }
    }
}

impl<F> Drop for Call<F> {
    fn drop(&mut self) {
        match self {
            Self::Here(runtime, call) => {
                let _entered = runtime.enter();
                *call = None;
            }
            Self::Elsewhere(task) => task.abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the names of the thread it runs on and of the one that its tasks run on.
    #[derive(Clone)]
    struct Places;

    impl Service<Request<Body>> for Places {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            Box::pin(async {
                let here = thread();
                // Timers, too, come from the runtime that was entered.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                let task = tokio::spawn(async { thread() }).await.unwrap();
                let places = format!("{here} {task}").parse().unwrap();
                let mut answer = Response::new(Body::empty());
                answer.headers_mut().insert("places", places);
                Ok(answer)
            })
        }
    }

    fn thread() -> String {
        std::thread::current().name().unwrap_or("none").to_owned()
    }

    #[test]
    fn calls_run_where_they_belong() {
        let daemon = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("worker")
            .enable_all()
            .build()
            .unwrap();
        let elsewhere = daemon.handle().clone();
        let front = Front::start(|| async move {
            let mut places = Vec::new();
            for rpc in ["ListContainers", "PullImage"] {
                let request = Request::builder()
                    .uri(format!("/runtime.v1.AnyService/{rpc}"))
                    .body(Body::empty())
                    .unwrap();
                let mut service = Placed::new(Places, elsewhere.clone());
                let answer = service.call(request).await.unwrap();
                places.push(answer.headers()["places"].clone());
            }
            places
        });
        let places = daemon.block_on(front.unwrap());
        assert_eq!(places.unwrap(), ["cri worker", "worker worker"]);
    }
}

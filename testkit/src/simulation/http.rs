//! The function's HTTP interface in one environment, over the simulated network.
//! It does not know what is sent.
//!
//! A request that was sent arrives although its sender is killed or gives up, so each travels in a task of its own.

use super::faults::Fault;
use super::world::World;
use bytes::Bytes;
use hyper::Request;
use purchasely_clevertap::http::{Exchange, Http, NoResponse};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

#[derive(Clone, Debug)]
pub struct SimulatedHttp(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    world: Arc<World>,
    environment: usize,
    /// Whether the environment's processor runs; between invocations it is frozen.
    is_running: AtomicBool,
    /// Connections do not outlive a freeze.
    freezes: AtomicU32,
    invocation: Mutex<Option<usize>>,
}

impl SimulatedHttp {
    pub fn new(world: &Arc<World>, environment: usize) -> Self {
        Self(Arc::new(Shared {
            world: Arc::clone(world),
            environment,
            is_running: AtomicBool::new(true),
            freezes: AtomicU32::new(0),
            invocation: Mutex::new(None),
        }))
    }

    pub fn thaw(&self, invocation: usize) {
        *self.0.invocation.lock().expect("no panic") = Some(invocation);
        self.0.is_running.store(true, Ordering::Relaxed);
    }

    /// Also for an environment that ends: nothing of it runs again.
    pub fn freeze(&self) {
        self.0.is_running.store(false, Ordering::Relaxed);
        self.0.freezes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes when the function has its answer or gives up.
struct Waiting<'w>(&'w World, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().exchanges[self.1].awaited = Some(self.0.elapsed());
    }
}

impl Http for SimulatedHttp {
    fn exchange(&self, request: Request<Bytes>, _: usize) -> Exchange {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            // The function may be killed between two requests that it sends at once.
            tokio::task::yield_now().await;
            if !shared.is_running.load(Ordering::Relaxed) {
                return pending().await;
            }
            let (sender, answer) = oneshot::channel();
            let invocation = *shared.invocation.lock().expect("no panic");
            let (number, fault) = shared.world.send(shared.environment, invocation, &request);
            let freezes = shared.freezes.load(Ordering::Relaxed);
            let world = Arc::clone(&shared.world);
            let _waiting = Waiting(&world, number);
            tokio::spawn(async move {
                let world = &shared.world;
                let answer = world.carry(number, request, fault).await;
                let is_connected = shared.freezes.load(Ordering::Relaxed) == freezes;
                let answer = if is_connected { answer } else { Err(NoResponse::Lost) };
                let status = answer.as_ref().map(|answer| answer.status().as_u16());
                let (summary, status) = (format!("{number}: {status:?}"), status.ok());
                let is_delivered = sender.send(answer).is_ok() && is_connected;
                let is_own = fault.is_none_or(Fault::keeps_answer);
                let mut state = world.state();
                let exchange = &mut state.exchanges[number];
                exchange.status = status.filter(|_| is_delivered);
                exchange.is_intact = is_delivered && is_own;
                drop(state);
                world.note(if is_delivered {
                    summary
                } else {
                    format!("{summary}, to nobody")
                });
            });
            match answer.await {
                Ok(answer) => answer,
                Err(_) => pending().await,
            }
        })
    }
}

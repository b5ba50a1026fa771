//! The function's HTTP interface in one environment, over the simulated network.
//! It does not know what is sent.
//!
//! A request that was sent arrives although its sender is killed or gives up, so each travels in a task of its own.

use super::faults::Fault;
use super::world::World;
use bytes::Bytes;
use hyper::Request;
use purchasely_clevertap::http::{Exchange, Http, NoResponse};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

#[derive(Clone)]
pub struct SimulatedHttp {
    world: Arc<World>,
    environment: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Between invocations the environment's processor does not run.
    is_frozen: bool,
    /// Connections do not outlive a freeze.
    freezes: u32,
    invocation: Option<usize>,
}

impl SimulatedHttp {
    pub fn new(world: &Arc<World>, environment: usize) -> Self {
        Self {
            world: Arc::clone(world),
            environment,
            state: Arc::default(),
        }
    }

    pub fn thaw(&self, invocation: usize) {
        let mut state = self.state.lock().expect("no panic");
        state.invocation = Some(invocation);
        state.is_frozen = false;
    }

    /// Also for an environment that ends: nothing of it runs again.
    pub fn freeze(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.is_frozen = true;
        state.freezes += 1;
    }

    fn state(&self) -> State {
        *self.state.lock().expect("no panic")
    }
}

/// Notes when the function has its answer or gives up.
struct Waiting<'w>(&'w World, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.state().exchanges.get_mut(self.1) {
            exchange.awaited = Some(self.0.elapsed());
        }
    }
}

impl Http for SimulatedHttp {
    fn exchange(&self, request: Request<Bytes>, _: usize) -> Exchange {
        let http = self.clone();
        Box::pin(async move {
            // The function may be killed between two requests that it sends at once.
            tokio::task::yield_now().await;
            let State { is_frozen, freezes, invocation } = http.state();
            if is_frozen {
                return pending().await;
            }
            let (sender, answer) = oneshot::channel();
            let sent = http.world.send(http.environment, invocation, &request);
            let (number, fault) = (sent.number, sent.fault);
            let world = Arc::clone(&http.world);
            let _waiting = Waiting(&world, number);
            tokio::spawn(async move {
                let answer = http.world.carry(sent, request).await;
                let is_connected = http.state().freezes == freezes;
                let answer = if is_connected { answer } else { Err(NoResponse::Lost) };
                let status = answer.as_ref().map(|answer| answer.status().as_u16());
                let (mut summary, status) = (format!("{number}: {status:?}"), status.ok());
                let is_delivered = sender.send(answer).is_ok() && is_connected;
                let mut state = http.world.state();
                if let Some(exchange) = state.exchanges.get_mut(number) {
                    exchange.status = status.filter(|_| is_delivered);
                    exchange.is_intact = is_delivered && fault.is_none_or(Fault::keeps_answer);
                }
                drop(state);
                if !is_delivered {
                    summary.push_str(", to nobody");
                }
                http.world.note(summary);
            });
            match answer.await {
                Ok(answer) => answer,
                Err(_) => pending().await,
            }
        })
    }
}

impl fmt::Debug for SimulatedHttp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SimulatedHttp")
    }
}

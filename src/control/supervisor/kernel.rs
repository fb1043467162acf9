//! What the kernel mirror tells: routes, addresses, interfaces that came back.

use super::Supervisor;
use crate::control::netlink::KernelView;

impl Supervisor {
    pub(super) fn kernel_changed(&mut self) {
        let view = self.kernel.borrow_and_update().clone();
        let before = std::mem::take(&mut self.requests);
        let before_addresses = before.first().map(|r| r.steering.local_addresses.clone());
        self.requests = before;
        self.follow_kernel(&view, before_addresses);
    }

    /// Publishes new routes, and tells the steering programs of new addresses.
    pub(super) fn follow_kernel(&mut self, view: &KernelView, before: Option<Vec<ipnet::IpNet>>) {
        self.publisher.set_routes(view.routes.clone());
        let addresses: Vec<_> = view
            .local_addresses
            .iter()
            .map(|local| local.prefix)
            .collect();
        if before.as_ref() != Some(&addresses) {
            for (request, steering) in self.requests.iter_mut().zip(&mut self.steering) {
                request.steering.local_addresses.clone_from(&addresses);
                if let Err(error) = steering.set_local_addresses(&addresses) {
                    let interface = steering.interface();
                    tracing::error!(interface, %error, "addresses not given to steering");
                }
            }
        }
        for number in 0..self.steering.len() {
            let link = view.links.get(number).and_then(Option::as_ref);
            if link.is_some_and(|link| link.ifindex != self.steering[number].ifindex()) {
                self.reopen(number);
            }
        }
    }

    /// The interface was deleted and created again.
    fn reopen(&mut self, number: usize) {
        let interface = self.steering[number].interface().to_owned();
        if let Err(error) = self.steering[number].reattach() {
            return tracing::error!(interface, %error, "port came back but cannot be attached");
        }
        let Some(workers) = &self.workers else { return };
        match workers.reopen(&self.requests[number], &self.steering[number]) {
            Ok(()) => tracing::info!(interface, "port reopened"),
            Err(error) => tracing::error!(interface, error, "port came back but cannot be opened"),
        }
    }
}

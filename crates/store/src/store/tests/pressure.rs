//! Who is told that publishers have to wait.

use super::super::*;

/// What a listener was told, in order.
fn told_to(pressure: &Pressure) -> Arc<Mutex<Vec<bool>>> {
    let told = Arc::<Mutex<Vec<bool>>>::default();
    let noted = Arc::clone(&told);
    pressure.tell(Box::new(move |on| noted.lock().push(on)));
    told
}

#[test]
fn changes_by_several_threads_are_told_in_the_order_in_which_they_came_about() {
    let pressure = Pressure::default();
    let told = Arc::<Mutex<Vec<bool>>>::default();
    let noted = Arc::clone(&told);
    pressure.tell(Box::new(move |on| {
        // So that others make changes meanwhile.
        thread::yield_now();
        noted.lock().push(on);
    }));
    let press = || {
        for _ in 0..5_000 {
            pressure.set(true);
            pressure.set(false);
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(press)));
    let told = told.lock();
    assert!(told.chunks(2).all(|two| two == [true, false]), "what is told last is what holds");
}

#[test]
fn a_listener_that_comes_late_is_told_what_holds() {
    let pressure = Pressure::default();
    assert_eq!(*told_to(&pressure).lock(), []);
    pressure.set(true);
    let told = told_to(&pressure);
    pressure.set(true);
    pressure.set(false);
    assert_eq!(*told.lock(), [true, false]);
}
